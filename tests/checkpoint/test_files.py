from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcomp.checkpoint.files import KEPT, Checkpoints
from fedcomp.errors import DataError
from fedcomp.link.stores import MemoryStateStore
from fedcomp.tensors import Tensors
from tests.common import equal
from tests.link.common import full_state, state


class Thing:
    """A part with two arrays that may be one, and a number."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        whole = np.full((2, 3), number, np.float32)
        self.arrays: Tensors = {"a": whole, "b": whole, "row": whole[0], "empty": whole[:0]}

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        return self.arrays, {"number": self.number}

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        self.arrays, self.number = arrays, values["number"]


def write(folder: Path, *numbers: int, run: str = "run") -> None:
    thing = Thing()
    checkpoints = Checkpoints(folder, run, {"one": thing, "other": Thing(100)})
    checkpoints.load()
    for number in numbers:
        thing.__init__(number)  # type: ignore[misc]
        checkpoints.save(number, {"round": number})


def read(folder: Path, run: str = "run") -> tuple[dict[str, Any] | None, Thing, Thing]:
    one, other = Thing(), Thing()
    return Checkpoints(folder, run, {"one": one, "other": other}).load(), one, other


def rounds(folder: Path) -> list[int]:
    return sorted(int(place.name[6:]) for place in (folder / "checkpoint").glob("round-*"))


def test_the_newest_comes_back_whole_and_few_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 0, 1, 2, 9, 10)
    assert rounds(tmp_path) == [9, 10]
    assert len(rounds(tmp_path)) == KEPT
    values, one, other = read(tmp_path)
    assert values == {"round": 10}
    assert (one.number, other.number) == (10, 100)
    assert equal(one.arrays, Thing(10).arrays)
    assert equal(other.arrays, Thing(100).arrays)
    one.arrays["a"][:] = 0  # nothing that was loaded is read-only or lies in the file
    assert read(tmp_path)[1].arrays["a"][0, 0] == 10


def test_arrays_in_the_same_memory_are_written_once(tmp_path: Path) -> None:
    write(tmp_path, 1)
    size = (tmp_path / "checkpoint/round-000001/arrays.safetensors").stat().st_size
    assert size < 2 * (6 + 3) * 4 + 600
    values = 2 * (2 * 6 + 3) * 4
    assert size - values < 600


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["state.json", "arrays.safetensors"])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda path: path.write_text("")])
def test_a_torn_one_gives_way_to_the_one_before(
    tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    write(tmp_path, 1, 2)
    (path,) = tmp_path.glob(f"checkpoint/round-000002/{name}")
    if name == "state.json" and damage is flip:
        return  # a flip within a text need not be seen
    if name == "state.json" and damage is cut:
        path.write_bytes(path.read_bytes()[:-2])  # the last one is the end of the line
    damage(path)
    assert read(tmp_path)[0] == {"round": 1}
    again = Checkpoints(tmp_path, "run", {"one": Thing(7), "other": Thing()})
    assert again.load() == {"round": 1}
    again.save(2, {"round": 2})
    assert rounds(tmp_path) == [1, 2]
    assert read(tmp_path)[0] == {"round": 2}


def test_the_good_one_stays_until_the_next_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1, 2)
    (tmp_path / "checkpoint/round-000002/state.json").unlink()
    thing = Thing()
    checkpoints = Checkpoints(tmp_path, "run", {"one": thing, "other": Thing()})
    assert checkpoints.load() == {"round": 1}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedcomp.checkpoint.files.save_tensors", full)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(2, {"round": 2})
    assert read(tmp_path)[0] == {"round": 1}


def test_there_may_be_none_or_none_of_this_run(tmp_path: Path) -> None:
    assert read(tmp_path)[0] is None
    write(tmp_path, 1)
    with pytest.raises(DataError, match="is of another run, run: name another folder"):
        read(tmp_path, "another")
    assert read(tmp_path)[0] == {"round": 1}
    shutil.rmtree(tmp_path / "checkpoint")
    assert read(tmp_path)[0] is None


class Choosy(Thing):
    """Takes up one number alone."""

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        if values["number"] != 1:
            msg = f"{values['number']} is refused"
            raise DataError(msg)
        super().load(arrays, values)


def test_one_that_a_part_refuses_gives_way_to_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    parts = {"one": Choosy(), "other": Thing()}
    with pytest.raises(DataError, match="2 is refused"):  # clients elsewhere have gone on from it
        Checkpoints(tmp_path, "run", parts).load()
    for place in (tmp_path / "checkpoint").glob("round-*"):
        (place / "clients").mkdir()
    clients = MemoryStateStore()
    assert Checkpoints(tmp_path, "run", parts, clients).load() == {"round": 1}
    assert parts["one"].number == 1
    parts["one"] = Fussy()
    with pytest.raises(DataError, match=r"round-000002: what it holds of the one is not .*KeyErr"):
        Checkpoints(tmp_path, "run", parts, clients).load()


@pytest.mark.parametrize("damage", ["cut", "gone", "rotten"])
def test_damaged_states_of_clients_give_way_to_those_before(damage: str, tmp_path: Path) -> None:
    clients = MemoryStateStore()
    checkpoints = Checkpoints(tmp_path, "run", {}, clients)
    checkpoints.load()
    for number in (1, 2):
        clients.save("a", full_state(number))
        checkpoints.save(number, {"round": number})
    newest = tmp_path / "checkpoint/round-000002/clients/sites/a"
    (file, *_) = newest.glob("*.bin") if damage == "rotten" else newest.glob("residual-*")
    data = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(data[:-1] if damage == "cut" else bytes(len(data)))
    found = MemoryStateStore()
    assert Checkpoints(tmp_path, "run", {}, found).load() == {"round": 1}
    back = found.load("a")
    assert back is not None
    assert back.version == state(1).version
    assert newest.is_dir()


def test_a_checkpoint_that_nobody_may_read_is_no_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fedcomp.checkpoint.files.load_file", refuse)
    with pytest.raises(DataError, match=r"round-000001 cannot be read: .* mend that"):
        read(tmp_path)


class Fussy(Thing):
    """Looks for what is not there."""

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        super().load({"a": arrays["missing"]}, values)


@pytest.mark.parametrize("beside", [True, False])
def test_a_run_does_not_move_away_from_its_clients(beside: bool, tmp_path: Path) -> None:
    stores = (MemoryStateStore(), None) if beside else (None, MemoryStateStore())
    checkpoints = Checkpoints(tmp_path, "run", {}, stores[0])
    checkpoints.load()
    checkpoints.save(1, {})
    with pytest.raises(DataError, match="cannot move between a deployment and a simulation"):
        Checkpoints(tmp_path, "run", {}, stores[1]).load()
    assert Checkpoints(tmp_path, "run", {}, stores[0]).load() == {}


def test_the_clients_states_are_those_of_the_same_moment(tmp_path: Path) -> None:
    clients = MemoryStateStore()
    checkpoints = Checkpoints(tmp_path, "run", {}, clients)
    assert checkpoints.load() is None
    for number in (1, 2, 3):
        clients.save("a", state(number))
        if number == 2:
            clients.save("b", state(5))
        checkpoints.save(number, {})
    clients.save("a", state(4))
    clients.save("c", state(4))
    (tmp_path / "checkpoint/round-000003/state.json").unlink()
    for store in (clients, MemoryStateStore()):
        assert Checkpoints(tmp_path, "run", {}, store).load() == {}
        found = {site: store.load(site) for site in "abc"}
        assert {site: s.version for site, s in found.items() if s is not None} == {
            "a": state(2).version,
            "b": state(5).version,
        }
