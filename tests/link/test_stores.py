from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fedcomp.link import part_files
from fedcomp.link.file_store import FileStateStore
from fedcomp.link.stores import MemoryStateStore, StateStore
from tests.common import equal
from tests.link.common import full_state, state


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


def test_all_parts_come_back_and_old_files_go(store: StateStore, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        store.save("a/b", full_state(number))
        found = store.load("a/b")
        assert found is not None
        wanted = full_state(number)
        assert found.pending is not None
        assert wanted.pending is not None
        assert equal(found.residual.tensors, wanted.residual.tensors)
        assert equal(found.pending.decoded.tensors, wanted.pending.decoded.tensors)
        assert (found.pending.blob, found.pending.note) == (b"blob%d" % number, "note")
        assert (found.exchange, found.previous) == (wanted.exchange, wanted.previous)
        store.save("a/b", found)  # nothing of it is written again
    if isinstance(store, FileStateStore):
        assert len(list((tmp_path / "sites" / "a%2Fb").iterdir())) == 6
        store.save("a/b", state(3))
        assert len(list((tmp_path / "sites" / "a%2Fb").iterdir())) == 2


def test_a_killed_process_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    """Let the process die at each of the calls that change the folder, one after the other."""
    for deadly in range(40):
        folder = tmp_path / str(deadly)
        store = FileStateStore(folder)
        store.save("a", full_state(1))
        calls = Counter[str]()

        def dies(real: Callable[..., Any], calls: Counter[str] = calls, at: int = deadly) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                calls["all"] += 1
                if calls["all"] > at:
                    raise KeyboardInterrupt
                return real(*args, **kwargs)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for owner, name in ((os, "link"), (Path, "replace"), (Path, "unlink")):
                patch.setattr(owner, name, dies(getattr(owner, name)))
            patch.setattr(part_files, "save_file", dies(part_files.save_file))
            died = False
            try:
                store.save("a", full_state(2))
            except KeyboardInterrupt:
                died = True
        store = FileStateStore(folder)
        found = store.load("a")
        assert found is not None
        assert found.pending is not None
        number = int(found.model["n"])
        assert found.pending.blob == b"blob%d" % number
        assert found.pending.decoded.tensors["w"][0, 0] == -number
        assert found.residual.tensors["w"][0, 0] == -number
        store.save("a", full_state(3))
        store = FileStateStore(folder)
        assert {path.stem for path in (folder / "models").glob("*.safetensors")} == {
            state(3).version.hex()
        }
        if not died:
            assert number == 2
            assert deadly > 5
            return
    pytest.fail("the process died every time")


def test_a_store_that_is_opened_removes_what_nobody_holds_and_nobody_writes(
    tmp_path: Path,
) -> None:
    store = FileStateStore(tmp_path)
    store.save("0", state(1))
    models, now = tmp_path / "models", time.time()
    ages = {"old": 3601 + 60, "older": 10**6, "young": 3600 - 60, "new": 0}
    for name, age in ages.items():
        (models / f"{name}.tmp").write_bytes(b"half a mod")
        os.utime(models / f"{name}.tmp", (now - age, now - age))
    (models / f"{state(2).version.hex()}.safetensors").write_bytes(b"no site links to it")
    FileStateStore(tmp_path)
    kept = {f"{state(1).version.hex()}.safetensors", "young.tmp", "new.tmp"}
    assert {path.name for path in models.iterdir()} == kept


class Stores(RuleBasedStateMachine):
    """Files and memory behave alike, and neither keeps a version that nobody holds.

    Copies are what the stores held when they were made, whatever happens then, and whichever of
    the two stores made them.
    """

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.file = FileStateStore(Path(self.folder.name))
        self.memory = MemoryStateStore()
        self.expected: dict[str, int] = {}
        self.copies: list[tuple[Path, dict[str, int]]] = []

    @rule(memory=st.booleans())
    def snapshot(self, memory: bool) -> None:
        copy = Path(self.folder.name) / f"copy-{len(self.copies)}"
        (self.memory if memory else self.file).snapshot(copy)
        self.copies.append((copy, dict(self.expected)))

    @precondition(lambda self: self.copies)
    @rule(back=st.integers(0, 2))
    def restore(self, back: int) -> None:
        copy, held = self.copies[-1 - back % len(self.copies)]
        for store in (self.file, self.memory):
            store.restore(copy)
        self.expected = dict(held)

    @rule(site=st.sampled_from("abc"), number=st.integers(1, 4))
    def save(self, site: str, number: int) -> None:
        for store in (self.file, self.memory):
            store.save(site, full_state(number))
        self.expected[site] = number

    @invariant()
    def same(self) -> None:
        for store in (self.file, self.memory):
            for site in "abc":
                found = store.load(site)
                number = None if found is None else int(found.model["n"])
                assert number == self.expected.get(site)
                if found is not None and number is not None:
                    assert equal(found.residual.tensors, full_state(number).residual.tensors)
                    assert found.pending is not None
                    assert found.pending.blob == b"blob%d" % number
        if not self.copies:
            self.check_files()
        assert set(self.memory._models) == {state(n).version for n in self.expected.values()}

    def check_files(self) -> None:
        kept = {path.stem for path in (Path(self.folder.name) / "models").iterdir()}
        assert kept == {state(number).version.hex() for number in self.expected.values()}

    def teardown(self) -> None:
        for copy, held in self.copies:
            store = FileStateStore(copy)
            assert store.sites() == sorted(held)
            found = {site: store.load(site) for site in held}
            assert {site: int(s.model["n"]) for site, s in found.items() if s} == held
            shutil.rmtree(copy)
        self.file = FileStateStore(Path(self.folder.name))  # opening it removes what copies held
        self.check_files()
        self.folder.cleanup()


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=40, deadline=None)
