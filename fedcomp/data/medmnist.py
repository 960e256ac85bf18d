"""PneumoniaMNIST (Yang et al., MedMNIST v2, arXiv:2110.14795): chest X-rays of 28 × 28 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.data.base import Dataset
from fedcomp.data.images import ImageSettings, class_labels
from fedcomp.data.published import reading
from fedcomp.data.store import fingerprint, stored
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.data.store import Writer
    from fedcomp.tensors import Array

_FILE = "pneumoniamnist.npz"

_PARTS = {"train": ("train", "val"), "test": ("test",)}


@dataclass(frozen=True)
class PneumoniaMnist(ImageSettings):
    """5,232 + 624 gray images, normal (0) or pneumonia (1), from the npz file of the authors.

    Its part `val` (524 of the 5,232) joins the training part, of which each client keeps a share
    for validation: these are the training and the test images of the X-rays it was made of.
    """

    name: ClassVar[str] = "pneumoniamnist"

    def load(self, data_dir: Path) -> Dataset:
        """Read the data set."""
        places = [data_dir / _FILE, data_dir / "pneumoniamnist" / _FILE]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            msg = (
                f"{self.name}: {_FILE} is neither in data_dir={data_dir} nor in its folder"
                " pneumoniamnist; get the file from https://medmnist.com and put it there"
            )
            raise DataError(msg)
        key = {"files": fingerprint([path], data_dir)}
        store = stored(data_dir, self.name, key, lambda writer: _build(writer, path))
        # the values that the examples of MedMNIST use
        preparation = self.preparation((0.5,), (0.5,))
        train, test = (store.samples(part, preparation) for part in _PARTS)
        return Dataset(train, test, 2, "classification", names=("normal", "pneumonia"))


def _build(writer: Writer, path: Path) -> None:
    arrays = _read(path)
    for part, names in _PARTS.items():
        targets = []
        for name in names:
            images, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"]
            if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or not len(images):
                msg = (
                    f"{path}: {name}_images must be uint8 of the shape (images, 28, 28), not"
                    f" {images.dtype} {images.shape}"
                )
                raise DataError(msg)
            if labels.ndim == 2 and labels.shape[1] == 1:
                labels = labels[:, 0]
            targets.append(class_labels(labels, len(images), 2, f"{path}: {name}_labels"))
        inputs = np.concatenate([arrays[f"{name}_images"] for name in names])
        writer.put(f"{part}-inputs", inputs[:, None])
        writer.labels(part, np.concatenate(targets))


def _read(path: Path) -> dict[str, Array]:
    names = [
        f"{name}_{kind}"
        for part in _PARTS.values()
        for name in part
        for kind in ("images", "labels")
    ]
    with reading(path), path.open("rb") as stream:
        try:
            content = np.load(stream, allow_pickle=False)
            return {name: content[name] for name in names}
        except (LookupError, ValueError) as error:
            msg = f"{path}: not an npz file with the arrays {', '.join(names)}: {error}"
            raise DataError(msg) from error
