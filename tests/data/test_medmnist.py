from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from fedcomp.data.medmnist import PneumoniaMnist
from fedcomp.errors import DataError
from tests.data.small_images import images, write_npz


@pytest.mark.parametrize("folder", ["", "pneumoniamnist"])
def test_pneumoniamnist_trains_on_train_and_val(tmp_path: Path, folder: str) -> None:
    arrays = write_npz(tmp_path / folder / "pneumoniamnist.npz")
    loaded = PneumoniaMnist().load(tmp_path)
    both = np.concatenate([arrays["train_images"], arrays["val_images"]])
    assert np.array_equal(loaded.train.inputs[:, 0], both)
    assert loaded.train.targets.tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert np.array_equal(loaded.test.inputs[:, 0], arrays["test_images"])
    assert (loaded.classes, loaded.input_shape) == (2, (1, 28, 28))
    assert loaded.names == ("normal", "pneumonia")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"val_labels": np.array([[0], [2]])}, "val_labels: label 2 of image 1"),
        ({"val_labels": np.array([0])}, "val_labels: 2 images need 2 whole numbers"),
        ({"test_images": images(3, 28, 28, 3)}, r"test_images must be .* not uint8 \(3, 28, 28, 3"),
        ({"test_images": images(0, 28, 28)}, r"test_images must be .* \(0, 28, 28\)"),
        ({"train_images": np.zeros((5, 28, 28))}, "train_images must be .* not float64"),
        ({"train_labels": np.array([None])}, "not an npz file with the arrays train_images"),
    ],
)
def test_npz_files_that_do_not_fit(
    tmp_path: Path, changes: dict[str, np.ndarray], problem: str
) -> None:
    write_npz(tmp_path / "pneumoniamnist.npz", **changes)
    with pytest.raises(DataError, match=rf"pneumoniamnist\.npz: .*{problem}"):
        PneumoniaMnist().load(tmp_path)


def test_damaged_npz_files(tmp_path: Path) -> None:
    path = tmp_path / "pneumoniamnist.npz"
    write_npz(path)
    whole = path.read_bytes()
    array, other = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(3))
    np.savez(other, images=np.zeros(3))
    middle = whole[:200] + bytes(900) + whole[1100:]
    for content in (b"", b"text", whole[:2000], middle, array.getvalue(), other.getvalue()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"pneumoniamnist\.npz: (cannot be read|not an npz)"):
            PneumoniaMnist().load(tmp_path)
