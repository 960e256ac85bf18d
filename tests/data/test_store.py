from __future__ import annotations

import os
import shutil
import threading
import time
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
    fourth = fingerprint([tmp_path / "b"], tmp_path)
    missing = [fingerprint(paths, tmp_path) for paths in ([file], [])]
    assert len({first, second, third, fourth, *missing}) == 6


@pytest.mark.parametrize("file", ["train-inputs.npy", "train-column-ape.npy", "notes.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "start", "cut", "header"])
def test_a_damaged_store_is_built_anew(
    tmp_path: Path, file: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    stored(tmp_path, "apes", {}, fill)
    (folder,) = (tmp_path / ".fedcomp").iterdir()
    content = (folder / file).read_bytes()
    if damage == "missing":
        (folder / file).unlink()
    else:
        left = {"empty": b"", "start": content[:5], "cut": content[:-1]}
        (folder / file).write_bytes(left.get(damage, content[:10] + b"(" * 20 + content[30:]))
    again = stored(tmp_path, "apes", {}, fill).samples("train", Preparation())
    assert again.inputs.ravel().tolist() == list(range(12))
    assert again.columns["ape"].tolist() == [1, 2, 3]
    assert f"{folder} is damaged and is built anew: " in caplog.text
    stored(tmp_path, "apes", {}, refuse)


def test_a_damaged_store_that_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(tmp_path, "apes", {}, fill)
    (folder,) = (tmp_path / ".fedcomp").iterdir()
    (folder / "notes.json").write_text("")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(DataError, match=rf"{folder.name}: .*damaged .* cannot be removed; delete"):
        stored(tmp_path, "apes", {}, fill)


def test_what_killed_processes_left_is_removed_after_a_day(tmp_path: Path) -> None:
    names = ["apes-1.a.tmp", "apes-1.b.tmp", "apes_too-1.c.tmp", "apes-2"]
    for name in names:
        (tmp_path / ".fedcomp" / name).mkdir(parents=True)
        (tmp_path / ".fedcomp" / name / "x.npy").touch()
        if name != "apes-1.b.tmp":
            day_ago = time.time() - 25 * 3600
            os.utime(tmp_path / ".fedcomp" / name, (day_ago, day_ago))
    stored(tmp_path, "apes", {}, fill)
    assert set(names) & set(folders(tmp_path)) == set(names[1:])


def test_data_folders_that_look_alike_do_not_share_a_copy_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".fedcomp").write_text("a file where the folder should be")

        def build(writer: Writer, name: str = name) -> None:
            fill(writer)
            writer.notes["of"] = name

        assert stored(tmp_path / name, "apes", {}, build).notes["of"] == name
    monkeypatch.chdir(tmp_path / "a")
    assert stored(Path(), "apes", {}, refuse).notes["of"] == "a"


def test_a_store_that_cannot_be_put_in_place_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", forbid)
    with pytest.raises(DataError, match=r"cannot be written to .*\.fedcomp: .*Permission denied"):
        stored(tmp_path, "apes", {}, fill)
    assert not folders(tmp_path)
