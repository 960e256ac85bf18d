from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fedcomp.link.stores import ClientState, FileStateStore, MemoryStateStore, StateStore
from fedcomp.tensors import version_of
from tests.common import equal


def state(number: int) -> ClientState:
    tensors = {"w": np.full((2, 3), number, np.float32), "n": np.array(number, np.int64)}
    return ClientState(version_of(tensors), tensors)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    return FileStateStore(tmp_path) if request.param == "file" else MemoryStateStore()


def test_a_state_comes_back_as_it_was(store: StateStore) -> None:
    assert store.load("3") is None
    for number in (1, 2, 2, 1):
        store.save("3", state(number))
        found = store.load("3")
        assert found is not None
        assert found.version == state(number).version
        assert equal(dict(sorted(found.model.items())), dict(sorted(state(number).model.items())))
    assert store.load("33") is None


def test_sites_share_a_version_and_the_last_one_removes_it(tmp_path: Path) -> None:
    store = FileStateStore(tmp_path)
    for site in range(50):
        store.save(str(site), state(1))
    (shared,) = (tmp_path / "models").iterdir()
    assert shared.stat().st_nlink == 51
    for site in range(50):
        store.save(str(site), state(2))
    assert [path.stem for path in (tmp_path / "models").iterdir()] == [state(2).version.hex()]


def test_a_site_that_died_between_two_steps_has_one_of_both_versions(tmp_path: Path) -> None:
    store = FileStateStore(tmp_path)
    store.save("a", state(1))
    store.save("b", state(2))
    (tmp_path / "sites" / f"a~{state(2).version.hex()}.safetensors").hardlink_to(
        tmp_path / "models" / f"{state(2).version.hex()}.safetensors"
    )
    found = FileStateStore(tmp_path).load("a")
    assert found is not None
    assert found.version in (state(1).version, state(2).version)
    store.save("a", state(3))
    assert len(list((tmp_path / "sites").glob("a~*"))) == 1


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_state_is_lost_and_repaired_by_the_next(damage: str, tmp_path: Path) -> None:
    store = FileStateStore(tmp_path)
    store.save("a", state(1))
    (path,) = (tmp_path / "models").iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data[: len(data) // 2] if damage == "truncate" else data)
    assert store.load("a") is None
    store.save("a", state(1))
    assert store.load("a") is not None


class Stores(RuleBasedStateMachine):
    """Files and memory behave alike, and neither keeps a version that nobody holds."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.file = FileStateStore(Path(self.folder.name))
        self.memory = MemoryStateStore()
        self.expected: dict[str, int] = {}

    @rule(site=st.sampled_from("abc"), number=st.integers(1, 4))
    def save(self, site: str, number: int) -> None:
        for store in (self.file, self.memory):
            store.save(site, state(number))
        self.expected[site] = number

    @invariant()
    def same(self) -> None:
        for store in (self.file, self.memory):
            for site in "abc":
                found = store.load(site)
                number = None if found is None else int(found.model["n"])
                assert number == self.expected.get(site)
        kept = {path.stem for path in (Path(self.folder.name) / "models").iterdir()}
        assert kept == {state(number).version.hex() for number in self.expected.values()}
        assert set(self.memory._models) == {state(n).version for n in self.expected.values()}

    def teardown(self) -> None:
        self.folder.cleanup()


TestStores = Stores.TestCase
