"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their Python version."""

from __future__ import annotations

import math
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.data.base import Dataset, Samples
from fedcomp.data.images import class_labels
from fedcomp.data.pickles import unpickle
from fedcomp.data.preparation import Augment
from fedcomp.data.published import Published, download, reading
from fedcomp.data.store import fingerprint, stored
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fedcomp.data.preparation import Numbers
    from fedcomp.data.store import Writer

_AUGMENT = Augment(crop=4, flip=True)
_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Cifar10(Published):
    """50,000 + 10,000 images in 10 classes, from the folder of batches or the archive alone."""

    name: ClassVar[str] = "cifar10"
    origin: ClassVar[str] = "CIFAR10"
    folder: ClassVar[str] = "cifar-10-batches-py"
    archive: ClassVar[str] = "cifar-10-python.tar.gz"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    }
    targets: ClassVar[str] = "labels"
    classes: ClassVar[int] = 10
    names: ClassVar[tuple[str, ...]] = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    columns: ClassVar[Mapping[str, tuple[str, int]]] = {}
    """By column: its key in a batch, and its number of classes."""

    # of all pixels of the training images, as most implementations have them
    mean: ClassVar[Numbers] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[Numbers] = (0.2470, 0.2435, 0.2616)

    augment: Augment = _AUGMENT

    @property
    def layout(self) -> str:
        """What the data folder has to hold."""
        files = ", ".join(file for part in self.parts.values() for file in part)
        return f"{self.folder}/ with {files}, or {self.archive}"

    def find(self, data_dir: Path) -> list[Path]:
        """Return the batches, or the archive where they are not unpacked."""
        batches = [data_dir / self.folder / file for part in self.parts.values() for file in part]
        if all(path.is_file() for path in batches):
            return batches
        archive = data_dir / self.archive
        return [archive] if archive.is_file() else []

    def fetch(self, data_dir: Path) -> None:
        """Download the archive, which need not be unpacked."""
        source = self.source
        download(data_dir / self.archive, [source.url], source.tgz_md5)

    def load(self, data_dir: Path) -> Dataset:
        """Read the data set."""
        preparation = self.preparation(self.mean, self.std)
        paths = self.locate(data_dir)
        key = {"files": fingerprint(paths, data_dir), "verify": self.verify}
        store = stored(data_dir, self.name, key, lambda writer: self._build(writer, paths))
        train, test = (store.samples(part, preparation) for part in self.parts)
        return Dataset(train, test, self.classes, "classification", names=self.names)

    def _build(self, writer: Writer, paths: list[Path]) -> None:
        if self.verify:
            source = self.source
            listed = dict(source.train_list + source.test_list)
            for path in paths:
                self.check(path, listed.get(path.name, source.tgz_md5))
        batches = {name: self._batch(stream, where) for name, where, stream in self._open(paths)}
        for part, files in self.parts.items():
            missing = [file for file in files if file not in batches]
            if missing:
                msg = f"{paths[0]}: {self.folder}/{missing[0]} is missing in it; fetch it again"
                raise DataError(msg)
            chosen = [batches.pop(file) for file in files]
            shape = (sum(map(len, chosen)), *_SHAPE)
            inputs = writer.array(f"{part}-inputs", shape, "uint8")
            np.concatenate([batch.inputs for batch in chosen], out=inputs)
            targets = np.concatenate([batch.targets for batch in chosen])
            columns = {
                name: np.concatenate([batch.columns[name] for batch in chosen])
                for name in self.columns
            }
            writer.labels(part, targets, columns=columns)

    def _open(self, paths: list[Path]) -> Iterator[tuple[str, Path | str, IO[bytes]]]:
        """Yield each batch: its name, where it is from, its bytes."""
        wanted = {f"{self.folder}/{file}": file for part in self.parts.values() for file in part}
        for path in paths:
            if path.name != self.archive:
                with reading(path), path.open("rb") as stream:
                    yield path.name, path, stream
                continue
            with reading(path), tarfile.open(path) as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.name in wanted else None
                    if content is not None:
                        yield wanted[member.name], f"{path}: {member.name}", content

    def _batch(self, stream: IO[bytes], where: Path | str) -> Samples:
        values = unpickle(stream, where)
        given = values.get("data")
        data = given if isinstance(given, np.ndarray) else np.empty(0)
        width = math.prod(_SHAPE)
        count = data.size // width
        if data.dtype != np.uint8 or not count or data.shape != (count, width):
            found = "no array" if data is not given else f"{data.dtype} {data.shape}"
            msg = f"{where}: 'data' must be uint8 of the shape (images, {width}), not {found}"
            raise DataError(msg)
        targets = class_labels(values.get(self.targets), count, self.classes, where)
        columns = {
            name: class_labels(values.get(key), count, classes, where)
            for name, (key, classes) in self.columns.items()
        }
        return Samples(data.reshape(-1, *_SHAPE), targets, columns=columns)


@dataclass(frozen=True)
class Cifar100(Cifar10):
    """50,000 + 10,000 images in 100 classes; the 20 superclasses are the column `coarse`."""

    name: ClassVar[str] = "cifar100"
    origin: ClassVar[str] = "CIFAR100"
    folder: ClassVar[str] = "cifar-100-python"
    archive: ClassVar[str] = "cifar-100-python.tar.gz"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"train": ("train",), "test": ("test",)}
    targets: ClassVar[str] = "fine_labels"
    classes: ClassVar[int] = 100
    names: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[Mapping[str, tuple[str, int]]] = {"coarse": ("coarse_labels", 20)}
    mean: ClassVar[Numbers] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[Numbers] = (0.2673, 0.2564, 0.2762)
