from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from fedcomp.data.mnist import FashionMnist, Mnist, read_idx
from fedcomp.errors import DataError
from tests.data.small_images import idx, images, write_idx


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("cls", "origin"), [(Mnist, "MNIST"), (FashionMnist, "FashionMNIST")])
def test_mnist_is_read_packed_and_unpacked(
    tmp_path: Path, cls: type[Mnist], origin: str, packed: bool
) -> None:
    arrays = write_idx(tmp_path, origin, packed=packed)
    loaded = cls(verify=False, channels=3, normalise=False).load(tmp_path)
    assert np.array_equal(loaded.train.inputs[:, 0], arrays["train-images-idx3-ubyte"])
    assert np.array_equal(loaded.test.inputs[:, 0], arrays["t10k-images-idx3-ubyte"])
    assert loaded.test.targets.tolist() == [0, 1, 2, 3]
    assert loaded.input_shape == (3, 28, 28)
    assert loaded.train.preparation.mean == ()
    prepared = cls(verify=False).load(tmp_path)
    known = prepared.train.preparation
    if cls is Mnist:
        assert (known.mean, known.std, prepared.names) == ((0.1307,), (0.3081,), ())
    else:
        assert (known.mean, known.std, len(prepared.names)) == ((0.2860,), (0.3530,), 10)


def test_mnist_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, "MNIST")
    with pytest.raises(DataError, match=r"train-images.*\.gz: .*dataset\.verify=false"):
        Mnist().load(tmp_path)
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        path.unlink()
    write_idx(tmp_path, "MNIST", packed=False)
    with pytest.raises(DataError, match=r"train-images.* holds 6 images, .* 60000;.*verify=false"):
        Mnist().load(tmp_path)
    monkeypatch.setattr("fedcomp.data.mnist._PUBLISHED", {"train": 6, "test": 4})
    assert len(Mnist().load(tmp_path).train) == 6


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("train-images-idx3-ubyte", b"", "not an idx file of bytes in 3 dimensions"),
        ("train-images-idx3-ubyte", idx(images(6, 28, 28), 13), r"its start is b'\\x00\\x00\\r"),
        ("train-images-idx3-ubyte", idx(images(6, 28, 28))[:-1], "has 4703 values, not 4704"),
        ("train-images-idx3-ubyte", idx(images(6, 28, 28)) + b"x", "has 4705 values"),
        ("train-images-idx3-ubyte", idx(images(6, 27, 28)), "6 images of 27 × 28 pixels"),
        ("train-images-idx3-ubyte", idx(images(0, 28, 28)), "holds 0 images"),
        ("t10k-labels-idx1-ubyte", idx(images(6, 28, 28)), "in 1 dimensions"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(5, np.uint8)), "4 images need 4 whole numbers"),
        ("t10k-labels-idx1-ubyte", idx(np.full(4, 10, np.uint8)), "label 10 of image 0"),
    ],
)
def test_idx_files_that_do_not_fit(tmp_path: Path, file: str, content: bytes, problem: str) -> None:
    write_idx(tmp_path, "MNIST", packed=False)
    (tmp_path / "MNIST" / "raw" / file).write_bytes(content)
    with pytest.raises(DataError, match=f"{file}: .*{problem}"):
        Mnist(verify=False).load(tmp_path)


def test_damaged_gzip_files(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    whole = gzip.compress(idx(np.zeros(50, np.uint8)))
    assert not whole.startswith(b"labels")
    for content in (b"plain", whole[:-9], whole[:12] + b"\xff" * 9 + whole[21:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"labels\.gz: cannot be read"):
            read_idx(path, 1)
