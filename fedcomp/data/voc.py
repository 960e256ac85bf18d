"""Pascal VOC: which of 20 classes an image shows, and to which class each pixel belongs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from fedcomp.data.base import Dataset
from fedcomp.data.files import fill, sound
from fedcomp.data.image_files import (
    Fit,
    Frame,
    ImageFileSettings,
    image_size,
    read_image,
    read_mask,
)
from fedcomp.data.preparation import IGNORED, IMAGENET, Augment
from fedcomp.data.store import fingerprint, stored
from fedcomp.data.voc_files import (
    CLASSES,
    Lists,
    Split,
    VocFolder,
    Year,
    presence,
    rarest,
)
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.data.store import Writer
    from fedcomp.tensors import Array

_AUGMENT = Augment(crop=16, flip=True)


@dataclass(frozen=True)
class VocSettings(ImageFileSettings):
    """What both tasks have in common: <data_dir>/VOCdevkit/VOC<year>.

    Parameters
    ----------
    year
        Of the challenge.
    train_split, test_split
        Lists in the folder `ImageSets`; 2012 has no public `test`.
    download
        Fetch the archive of a list that is missing.
    """

    lists: ClassVar[Lists]
    names: ClassVar[tuple[str, ...]]
    target_dtype: ClassVar[str]

    size: Annotated[int, Ge(8), Le(1024)] = 128
    augment: Augment = _AUGMENT
    year: Year = 2012
    train_split: Split = "train"
    test_split: Split = "val"
    download: bool = False

    @property
    @abstractmethod
    def task(self) -> str:
        """What is learned, see `Dataset`."""

    @property
    @abstractmethod
    def frame(self) -> Frame:
        """What images become."""

    @property
    @abstractmethod
    def target_shape(self) -> tuple[int, ...]:
        """Shape of the target of one image."""

    @abstractmethod
    def source(self, folder: VocFolder, name: str) -> Path:
        """Return the file that an image's target comes from."""

    @abstractmethod
    def target(self, folder: VocFolder, name: str) -> Array:
        """Read the target of an image."""

    @abstractmethod
    def labels(self, targets: Array) -> Array:
        """Return one class an image, by which partitions divide."""

    def load(self, data_dir: Path) -> Dataset:
        """Return the data set; it is decoded where that was not done before."""
        preparation = self.preparation(*IMAGENET)
        folder = VocFolder(data_dir, self.year, self.lists)
        parts = folder.parts(self.train_split, self.test_split, download=self.download)
        names = [name for part in parts.values() for name in part]
        paths = [path for n in names for path in (folder.image(n), self.source(folder, n))]
        files = fingerprint(paths, folder.root)
        key = {**self.key(self.frame), "parts": parts, "files": files}
        store = stored(data_dir, self.name, key, lambda writer: self._build(writer, folder, parts))
        train, test = (store.samples(part, preparation) for part in parts)
        return Dataset(train, test, len(self.names), self.task, store.skipped, self.names)

    def _build(self, writer: Writer, folder: VocFolder, parts: dict[str, list[str]]) -> None:
        def read(name: str) -> tuple[Array, Array]:
            return read_image(folder.image(name), self.frame), self.target(folder, name)

        skipped = []
        for part, names in parts.items():
            kept, left_out = sound(names, read, folder.root, skip=self.skip_corrupt)
            skipped += [why for _, why in left_out]
            if not kept:
                msg = (
                    f"{self.name}: of {len(names)} images to {part} none can be read; the first:"
                    f" {left_out[0][1]}"
                )
                raise DataError(msg)
            inputs = writer.array(f"{part}-inputs", (len(kept), *self.frame.shape), "uint8")
            shape = len(kept), *self.target_shape
            targets = writer.array(f"{part}-targets", shape, self.target_dtype)
            fill((inputs, targets), kept, read)
            writer.put(f"{part}-labels", self.labels(targets))
        writer.notes["skipped"] = skipped


@dataclass(frozen=True)
class Voc(VocSettings):
    """Which classes are there: 1, 0, or −1 where an image does not count; labels: the rarest."""

    name: ClassVar[str] = "voc"
    lists: ClassVar[Lists] = "Main"
    names: ClassVar[tuple[str, ...]] = CLASSES
    target_dtype: ClassVar[str] = "int8"

    fit: Fit = "squash"

    @property
    def task(self) -> str:
        """Any number of classes; 2007 defines average precision at eleven points."""
        return "multilabel_2007" if self.year == 2007 else "multilabel"

    @property
    def frame(self) -> Frame:
        """Images in colour."""
        return Frame(self.size, self.fit, 3)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """One value a class."""
        return (len(CLASSES),)

    def source(self, folder: VocFolder, name: str) -> Path:
        """Return the annotation."""
        return folder.annotation(name)

    def target(self, folder: VocFolder, name: str) -> Array:
        """Read the annotation."""
        return presence(folder.annotation(name))

    def labels(self, targets: Array) -> Array:
        """Return the rarest class that an image shows."""
        return rarest(targets)


@dataclass(frozen=True)
class VocSeg(VocSettings):
    """The class of each pixel, 0 being the background; labels: the largest but the background."""

    name: ClassVar[str] = "voc_seg"
    lists: ClassVar[Lists] = "Segmentation"
    names: ClassVar[tuple[str, ...]] = ("background", *CLASSES)
    target_dtype: ClassVar[str] = "uint8"

    @property
    def task(self) -> str:
        """A class each pixel."""
        return "segmentation"

    @property
    def frame(self) -> Frame:
        """Images in colour, as they are stored: so the masks were drawn."""
        return Frame(self.size, self.fit, 3, upright=False)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """One value a pixel."""
        return self.size, self.size

    def source(self, folder: VocFolder, name: str) -> Path:
        """Return the mask."""
        return folder.mask(name)

    def target(self, folder: VocFolder, name: str) -> Array:
        """Read the mask."""
        path = folder.mask(name)
        mask = read_mask(path, self.frame, image_size(folder.image(name)))
        wrong = mask[(mask >= len(self.names)) & (mask != IGNORED)]
        if wrong.size:
            msg = (
                f"{path}: holds the class {wrong[0]}; allowed are 0 to {len(CLASSES)}, and"
                f" {IGNORED} for pixels that do not count"
            )
            raise DataError(msg)
        return mask

    def labels(self, targets: Array) -> Array:
        """Return the class that most pixels have, but the background; 0 where there is no other."""
        counts = np.stack([np.bincount(mask.ravel(), minlength=IGNORED + 1) for mask in targets])
        objects = counts[:, 1 : len(self.names)]
        return np.where(objects.any(axis=1), objects.argmax(axis=1) + 1, 0)
