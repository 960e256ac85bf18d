"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., arXiv:1708.07747): idx files."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.data.base import Dataset
from fedcomp.data.images import class_labels
from fedcomp.data.published import Published, download, reading
from fedcomp.data.store import fingerprint, stored
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.data.preparation import Numbers
    from fedcomp.data.store import Writer
    from fedcomp.tensors import Array

_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_PUBLISHED = {"train": 60_000, "test": 10_000}
_UINT8 = 0x08


@dataclass(frozen=True)
class Mnist(Published):
    """60,000 + 10,000 gray images of 28 × 28 pixels in 10 classes.

    Of a file and its gzip the latter is read: it is the one whose checksum is published.
    """

    name: ClassVar[str] = "mnist"
    origin: ClassVar[str] = "MNIST"
    names: ClassVar[tuple[str, ...]] = ()

    # of all pixels of the training images, as most implementations have them
    mean: ClassVar[Numbers] = (0.1307,)
    std: ClassVar[Numbers] = (0.3081,)

    @property
    def layout(self) -> str:
        """What the data folder has to hold."""
        return f"{self.origin}/raw/ with {', '.join(_FILES)}, each packed or unpacked"

    def find(self, data_dir: Path) -> list[Path]:
        """Return the files in the order of `_FILES`."""
        packed = [data_dir / self.origin / "raw" / file for file in _FILES]
        paths = [path if path.is_file() else path.with_suffix("") for path in packed]
        return paths if all(path.is_file() for path in paths) else []

    def fetch(self, data_dir: Path) -> None:
        """Download the gzip files that are missing."""
        source = self.source
        for file, md5 in source.resources:
            path = data_dir / self.origin / "raw" / file
            if not path.is_file():
                download(path, [f"{mirror}{file}" for mirror in source.mirrors], md5)

    def load(self, data_dir: Path) -> Dataset:
        """Read the data set."""
        paths = self.locate(data_dir)
        key = {"files": fingerprint(paths, data_dir), "verify": self.verify}
        store = stored(data_dir, self.name, key, lambda writer: self._build(writer, paths))
        preparation = self.preparation(self.mean, self.std)
        train, test = (store.samples(part, preparation) for part in _PUBLISHED)
        return Dataset(train, test, 10, "classification", names=self.names)

    def _build(self, writer: Writer, paths: list[Path]) -> None:
        if self.verify:
            listed = dict(self.source.resources)
            for path in paths:
                if path.name in listed:
                    self.check(path, listed[path.name])
        for part, images, labels in zip(_PUBLISHED, paths[::2], paths[1::2], strict=True):
            inputs = read_idx(images, 3)
            count, *size = inputs.shape
            if size != [28, 28] or not count:
                msg = f"{images}: holds {count} images of {size[0]} × {size[1]} pixels, not 28 × 28"
                raise DataError(msg)
            if self.verify and count != _PUBLISHED[part]:
                msg = (
                    f"{images}: holds {count} images, the published file {_PUBLISHED[part]}; put"
                    " that one there, or accept a copy that you trust with dataset.verify=false"
                )
                raise DataError(msg)
            targets = class_labels(read_idx(labels, 1), count, 10, labels)
            writer.put(f"{part}-inputs", inputs[:, None])
            writer.labels(part, targets)


@dataclass(frozen=True)
class FashionMnist(Mnist):
    """60,000 + 10,000 gray images of 28 × 28 pixels in 10 kinds of clothing."""

    name: ClassVar[str] = "fashion_mnist"
    origin: ClassVar[str] = "FashionMNIST"
    names: ClassVar[tuple[str, ...]] = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot",
    )  # fmt: skip
    mean: ClassVar[Numbers] = (0.2860,)
    std: ClassVar[Numbers] = (0.3530,)


def read_idx(path: Path, ndim: int) -> Array:
    """Read an idx file of bytes: 0 0 type ndim, each length in 4 bytes (big-endian), values."""
    with reading(path):
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    header = 4 + 4 * ndim
    if len(content) < header or content[:4] != bytes((0, 0, _UINT8, ndim)):
        msg = f"{path}: not an idx file of bytes in {ndim} dimensions; its start is {content[:4]!r}"
        raise DataError(msg)
    shape = [int(length) for length in np.frombuffer(content, ">u4", ndim, 4)]
    if len(content) - header != math.prod(shape):
        msg = f"{path}: has {len(content) - header} values, not {math.prod(shape)} as it says"
        raise DataError(msg)
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
