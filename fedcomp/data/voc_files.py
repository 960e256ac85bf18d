"""The folder of a Pascal VOC data set: its lists, annotations and images.

Everingham, Van Gool, Williams, Winn, Zisserman, "The Pascal Visual Object Classes (VOC) Challenge",
International Journal of Computer Vision 88 (2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from fedcomp.errors import DataError, suggest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fedcomp.tensors import Array

Year = Literal[2007, 2012]
Split = Literal["train", "val", "trainval", "test"]

Lists = Literal["Main", "Segmentation"]

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

PRESENT, ABSENT, UNCOUNTED = 1, 0, -1


@dataclass(frozen=True)
class VocFolder:
    """The files of one year.

    Attributes
    ----------
    lists
        Which folder of `ImageSets` divides the images: "Main" or "Segmentation".
    """

    data_dir: Path
    year: Year
    lists: Lists

    @property
    def root(self) -> Path:
        """Folder of that year."""
        return self.data_dir / "VOCdevkit" / f"VOC{self.year}"

    def image(self, name: str) -> Path:
        """Return where an image lies."""
        return self.root / "JPEGImages" / f"{name}.jpg"

    def annotation(self, name: str) -> Path:
        """Return where an image's objects are listed."""
        return self.root / "Annotations" / f"{name}.xml"

    def mask(self, name: str) -> Path:
        """Return where the classes of an image's pixels lie."""
        return self.root / "SegmentationClass" / f"{name}.png"

    def list_of(self, split: Split) -> Path:
        """Return where the names of a split's images are listed."""
        return self.root / "ImageSets" / self.lists / f"{split}.txt"

    def names(self, split: Split) -> list[str]:
        """Return the names of a split's images, each once."""
        path = self.list_of(split)
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{path}: the list of the images of {split} cannot be read: {error}"
            raise DataError(msg) from error
        names = dict.fromkeys(line.split()[0] for line in lines if line.strip())
        odd = next((name for name in names if "/" in name or "\\" in name), None)
        if odd is not None:
            msg = f"{path}: {odd!r} is no name of an image, such as 2008_000008"
            raise DataError(msg)
        if not names:
            msg = f"{path}: the list of the images of {split} is empty; choose another split"
            raise DataError(msg)
        return list(names)

    def parts(self, train: Split, test: Split, *, download: bool) -> dict[str, list[str]]:
        """Return the names of the images that train and of those that test."""
        if download:
            self._download(self._without_list(train, test))
        masks = self.root / "SegmentationClass"
        if self.lists == "Segmentation" and self.root.is_dir() and not masks.is_dir():
            msg = (
                f"there is no folder {masks}: this copy has no masks; get the whole archive with"
                " dataset.download=true, or choose dataset=voc"
            )
            raise DataError(msg)
        missing = self._without_list(train, test)
        if missing:
            raise DataError(self._missing(missing[0]))
        parts = {"train": self.names(train), "test": self.names(test)}
        both = set(parts["train"]) & set(parts["test"])
        if both:
            msg = (
                f"dataset.train_split={train}, dataset.test_split={test}: {len(both)} images are in"
                f" both, such as {min(both)}; choose splits that share none"
            )
            raise DataError(msg)
        return parts

    def _without_list(self, *splits: Split) -> list[Split]:
        return [split for split in splits if not self.list_of(split).is_file()]

    def _missing(self, split: Split) -> str:
        path = self.list_of(split)
        there = sorted(p.stem for p in path.parent.glob("*.txt") if "_" not in p.stem)
        return (
            f"there is no list {path} (data_dir={self.data_dir});"
            f" in its folder are {', '.join(there) or 'no lists'}. Choose other splits with"
            " dataset.train_split and dataset.test_split, fetch the data with"
            f" dataset.download=true, or unpack them so that VOCdevkit/VOC{self.year} lies in"
            " data_dir"
        )

    def _download(self, splits: Iterable[Split]) -> None:
        """Fetch what holds these splits; torchvision checks its hash."""
        import tarfile

        from torchvision.datasets import VOCDetection

        for packed in sorted({"test" if split == "test" else "trainval" for split in splits}):
            try:
                VOCDetection(self.data_dir, str(self.year), packed, download=True)
            except (OSError, RuntimeError, ValueError, tarfile.TarError) as error:
                msg = (
                    f"dataset.download=true: {packed} of VOC{self.year} cannot be fetched: {error};"
                    f" unpack it so that VOCdevkit/VOC{self.year} lies in data_dir={self.data_dir}"
                )
                raise DataError(msg) from error


def presence(path: Path) -> Array:
    """Return for each class whether objects of it are PRESENT, ABSENT or UNCOUNTED.

    UNCOUNTED are those of which only objects marked as difficult are there: VOC's classification
    task leaves such an image out of that class's precision.
    """
    found = np.full(len(CLASSES), ABSENT, dtype=np.int8)
    objects = _parse(path).findall("object")
    if not objects:
        msg = f"{path}: the annotation names no object; VOC marks at least one in each image"
        raise DataError(msg)
    for item in objects:
        name = (item.findtext("name") or "").strip()
        if name not in CLASSES:
            msg = f"{path}: the class {name!r} is none of VOC's{suggest(name, CLASSES)}"
            raise DataError(msg)
        at = CLASSES.index(name)
        if (item.findtext("difficult") or "").strip() != "1":
            found[at] = PRESENT
        elif found[at] != PRESENT:
            found[at] = UNCOUNTED
    return found


def rarest(targets: Array) -> Array:
    """Return for each row its class that is present in fewest rows; else one that is uncounted."""
    rows = (targets == PRESENT).sum(axis=0)
    cost = np.where(targets == UNCOUNTED, len(targets) + rows, 2 * len(targets) + 1)
    return np.asarray(np.where(targets == PRESENT, rows, cost).argmin(axis=1), dtype=np.int64)


def _parse(path: Path) -> ElementTree.Element:
    """Parse XML without a document type, whose entities can grow without bound."""

    def refuse(*_: object) -> None:
        msg = "it declares a document type, which no annotation needs"
        raise ValueError(msg)

    try:
        data = path.read_bytes()
        scan = expat.ParserCreate()
        scan.StartDoctypeDeclHandler = refuse
        scan.Parse(data, True)
        return ElementTree.fromstring(data)  # noqa: S314  no entities are left to expand
    except (OSError, ValueError, LookupError, expat.ExpatError) as error:
        msg = f"{path}: cannot be read as an annotation in XML: {error}"
        raise DataError(msg) from error
