from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from fedcomp.data.preparation import Preparation
from fedcomp.data.store import Store, Writer, fingerprint, stored
from fedcomp.errors import DataError

LABELS = np.array([1, 0, 2])


def fill(writer: Writer) -> None:
    inputs = writer.array("train-inputs", (3, 1, 2, 2), "uint8")
    inputs[...] = np.arange(12).reshape(3, 1, 2, 2)
    columns = {"zebra": np.array([5, 5, 6]), "ape": np.array([1, 2, 3])}
    writer.labels("train", LABELS, columns=columns)
    writer.notes["mean"] = 0.5


def refuse(writer: Writer) -> None:
    msg = "this must not be decoded again"
    raise AssertionError(msg)


def folders(data_dir: Path) -> list[str]:
    return sorted(path.name for path in (data_dir / ".fedcomp").iterdir())


def test_arrays_are_decoded_once_and_mapped(tmp_path: Path) -> None:
    stored(tmp_path, "apes", {"size": 2}, fill)
    store = stored(tmp_path, "apes", {"size": 2}, refuse)
    samples = store.samples("train", Preparation())
    assert samples.inputs.tolist() == np.arange(12).reshape(3, 1, 2, 2).tolist()
    assert samples.targets.tolist() == LABELS.tolist()
    assert list(samples.columns) == ["zebra", "ape"], "in the order given"
    assert store.notes["mean"] == 0.5
    assert not samples.inputs.flags.writeable
    assert isinstance(samples.inputs.base, np.memmap)
    assert len(folders(tmp_path)) == 1


def test_another_key_is_another_store(tmp_path: Path) -> None:
    stored(tmp_path, "apes", {"size": 2}, fill)
    with pytest.raises(AssertionError, match="again"):
        stored(tmp_path, "apes", {"size": 3}, refuse)
    assert len(folders(tmp_path)) == 1, "what failed leaves nothing"


def test_whoever_comes_second_takes_the_first_ones(tmp_path: Path) -> None:
    barrier = threading.Barrier(4)
    found: list[Store] = []

    def slow(writer: Writer) -> None:
        barrier.wait(10)
        fill(writer)

    def work() -> None:
        found.append(stored(tmp_path, "apes", {}, slow))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(folders(tmp_path)) == 1


def test_data_that_cannot_be_written_beside_are_decoded_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stored(tmp_path / "data", "apes", {}, fill)
    assert [path.name[:5] for path in (tmp_path / "cache" / "fedcomp").iterdir()] == ["apes-"]
    stored(tmp_path / "data", "apes", {}, refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "data"))
    with pytest.raises(DataError, match="make one of them writable"):
        stored(tmp_path / "data", "apes", {}, fill)


def test_a_full_disk_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"\.fedcomp: .*No space left on device"):
        stored(tmp_path, "apes", {}, fill)
    assert not folders(tmp_path)


def test_a_fingerprint_follows_place_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    first = fingerprint([file], tmp_path)
    assert fingerprint([file], tmp_path) == first
    os.utime(file, ns=(1, 1))
    second = fingerprint([file], tmp_path)
    file.write_text("12")
    os.utime(file, ns=(1, 1))
    third = fingerprint([file], tmp_path)
    file.rename(tmp_path / "b")
    assert len({first, second, third, fingerprint([tmp_path / "b"], tmp_path)}) == 4
