from __future__ import annotations

import io
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torchvision

from fedcomp.data.cifar import Cifar10
from fedcomp.data.pickles import unpickle
from fedcomp.errors import DataError
from tests.data.small_images import (
    BATCH,
    CIFAR10,
    CIFAR100,
    images,
    md5,
    pack,
    rewrite,
    write_cifar10,
    write_cifar100,
)


def test_cifar10_is_read_from_any_protocol_and_from_its_archive(tmp_path: Path) -> None:
    written = write_cifar10(tmp_path / "a")
    batches = tmp_path / "a" / "cifar-10-batches-py"
    loaded = CIFAR10.load(tmp_path / "a")
    assert (len(loaded.test), loaded.classes, loaded.input_shape) == (4, 10, (3, 32, 32))
    assert np.array_equal(loaded.train.inputs, written)
    assert loaded.train.inputs.dtype == np.uint8
    assert loaded.train.targets.tolist() == [(k + p) % 10 for p in range(5) for k in range(4)]
    assert loaded.train.preparation.mean == (0.4914, 0.4822, 0.4465)
    assert (len(loaded.names), loaded.names[3]) == (10, "cat")

    (tmp_path / "b").mkdir()
    pack(tmp_path / "b", batches, "cifar-10-python.tar.gz")
    packed = CIFAR10.load(tmp_path / "b")
    assert np.array_equal(packed.train.inputs, written)
    assert np.array_equal(packed.test.targets, loaded.test.targets)


def test_cifar100_has_its_superclasses_as_a_column(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    loaded = CIFAR100.load(tmp_path)
    assert loaded.train.targets.tolist() == [99, 98, 97, 96, 95, 94, 93]
    assert loaded.train.columns["coarse"].tolist() == [19, 18, 17, 16, 15, 14, 13]
    assert (len(loaded.test), loaded.classes, loaded.names) == (3, 100, ())


def test_cifar_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path)
    source = torchvision.datasets.CIFAR10
    with pytest.raises(DataError, match=r"data_batch_1: .* dataset\.verify=false"):
        Cifar10().load(tmp_path)
    CIFAR10.load(tmp_path)
    with pytest.raises(DataError, match="not the published file"):  # although a store is there
        Cifar10().load(tmp_path)
    paths = Cifar10().find(tmp_path)
    monkeypatch.setattr(source, "train_list", [[path.name, md5(path)] for path in paths[:5]])
    monkeypatch.setattr(source, "test_list", [[path.name, md5(path)] for path in paths[5:]])
    assert len(Cifar10().load(tmp_path).train) == 20

    pack(tmp_path, tmp_path / "cifar-10-batches-py", "cifar-10-python.tar.gz")
    shutil.rmtree(tmp_path / "cifar-10-batches-py")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: .* dataset\.verify=false"):
        Cifar10().load(tmp_path)
    monkeypatch.setattr(source, "tgz_md5", md5(tmp_path / "cifar-10-python.tar.gz"))
    assert len(Cifar10().load(tmp_path).train) == 20


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": [0, 1, 2, 10]}, "label 10 of image 3 is none of the classes 0 to 9"),
        ({"labels": [0, -1, 2, 3]}, "label -1 of image 1"),
        ({"labels": [0, 1, 2]}, "4 images need 4 whole numbers"),
        ({"labels": [0.0, 1.0, 2.0, 3.0]}, "values of type float64"),
        ({"labels": [[0], [1, 2], 3, 4]}, "4 images need 4 whole numbers"),
        ({"labels": None}, "4 images need 4 whole numbers"),
        ({"data": images(4, 3071)}, r"not uint8 \(4, 3071\)"),
        ({"data": images(4, 3072).astype(np.int16)}, r"not int16 \(4, 3072\)"),
        ({"data": images(0, 3072), "labels": []}, r"not uint8 \(0, 3072\)"),
        ({"data": [1, 2]}, "not no array"),
    ],
)
def test_batches_that_do_not_fit(tmp_path: Path, changes: dict[str, object], problem: str) -> None:
    write_cifar10(tmp_path)
    rewrite(tmp_path / BATCH, **changes)
    with pytest.raises(DataError, match=rf"data_batch_3: .*{problem}"):
        CIFAR10.load(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 200, 5000, -1])
def test_truncated_batches(tmp_path: Path, length: int) -> None:
    write_cifar10(tmp_path)
    for name in ("data_batch_1", "data_batch_4"):
        path = tmp_path / "cifar-10-batches-py" / name
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match=f"{name}: cannot be read: ."):
            CIFAR10.load(tmp_path)
        shutil.rmtree(tmp_path / "cifar-10-batches-py")
        write_cifar10(tmp_path)


def test_pickles_run_no_code(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    target = tmp_path / "made"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(target),)

    for protocol in (0, 2, 4):
        (tmp_path / BATCH).write_bytes(pickle.dumps(Evil(), protocol=protocol))
        with pytest.raises(DataError, match=r"data_batch_3: .*posix\.mkdir"):
            CIFAR10.load(tmp_path)
    assert not target.exists()
    for content in ([1, 2], {"data": np.array([None])}, {"data": np.array(["text"])}):
        (tmp_path / BATCH).write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match=r"data_batch_3: cannot be read: ."):
            CIFAR10.load(tmp_path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_numbers_come_back(protocol: int) -> None:
    values = {
        "bytes": images(3, 4),
        "big": np.arange(6, dtype=">i4").reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(20)[::3],
        "list": [1, "a", None, (2.0, b"x")],
    }
    found = unpickle(io.BytesIO(pickle.dumps(values, protocol=protocol)), "here")
    assert list(found) == list(values)
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype  # type: ignore[attr-defined]
            assert np.array_equal(found[name], value)  # type: ignore[arg-type]
        else:
            assert found[name] == value


def test_damaged_archives(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    batches, archive = tmp_path / "cifar-10-batches-py", tmp_path / "cifar-10-python.tar.gz"
    pack(tmp_path, batches, archive.name)
    whole = archive.read_bytes()
    (batches / "test_batch").unlink()
    assert CIFAR10.find(tmp_path) == [archive]
    for content in (b"", b"no archive", whole[:300], whole[: len(whole) // 2]):
        archive.write_bytes(content)
        with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: .*cannot be read"):
            CIFAR10.load(tmp_path)
    pack(tmp_path, batches, archive.name)
    with pytest.raises(DataError, match="cifar-10-batches-py/test_batch is missing in it"):
        CIFAR10.load(tmp_path)
