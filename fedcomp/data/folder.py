"""Anybody's images, one folder for each class, with what else a table says of them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt, Lt

from fedcomp import seeds
from fedcomp.data.base import divide
from fedcomp.data.class_folders import class_folders, files_of, load_parts
from fedcomp.data.files import entries
from fedcomp.data.image_files import ImageFileSettings
from fedcomp.data.preparation import IMAGENET
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.data.base import Dataset
    from fedcomp.data.class_folders import Parts

METADATA = "metadata.csv"

_PARTS = {"train", "test", "val", "valid", "validation"}

_GRAY = (0.449,), (0.226,)
"""The means of `IMAGENET` over its colours."""


@dataclass(frozen=True)
class Folder(ImageFileSettings):
    """Anybody's images: <data_dir>/<path>/{train,test}/<class>/…, or <data_dir>/<path>/<class>/….

    Parameters
    ----------
    path
        Folder of the data set, to be given; below `data_dir` unless it is absolute.
    gray
        Store one channel, the luma, instead of three.
    test_share
        Share of each class that tests, where there are no folders `train` and `test`.
    """

    name: ClassVar[str] = "folder"

    path: str = ""
    gray: bool = False
    test_share: Annotated[float, Gt(0), Lt(1)] = 0.2

    def load(self, data_dir: Path) -> Dataset:
        """Return the data set; its classes are the folders in the order of their names."""
        if not self.path.strip():
            msg = f"dataset.path is empty; give the folder of the images in data_dir={data_dir}"
            raise DataError(msg)
        root = data_dir / self.path
        if not root.is_dir():
            msg = (
                f"folder: there is no folder {root} (data_dir={data_dir},"
                f" dataset.path={self.path}); put one folder of images for each class there, or"
                " train/ and test/ with such ones"
            )
            raise DataError(msg)
        parts, classes = self._find(root)
        metadata = root / METADATA
        if metadata.exists():
            parts = _with_columns(parts, root, metadata)
        statistics = _GRAY if self.gray else IMAGENET
        return load_parts(self, data_dir, root, parts, classes, statistics)

    def _find(self, root: Path) -> tuple[Parts, list[str]]:
        found = {path.name for path in entries(root) if path.is_dir()}
        missing = {"train", "test"} - found
        if missing and found and found <= _PARTS:
            msg = (
                f"folder: {root} has {', '.join(sorted(found))}, and {min(missing)} is missing;"
                " name the folders train and test, or put the classes' folders there directly"
            )
            raise DataError(msg)
        if missing:
            classes = class_folders(root)
            parts: Parts = {"train": [], "test": []}
            rng = seeds.generator("folder", "test")
            for target, name in enumerate(classes):
                files = files_of(root / name, target)
                train, test = divide(len(files), self.test_share, rng)
                parts["train"] += [files[at] for at in train]
                parts["test"] += [files[at] for at in test]
            return parts, classes
        classes, tested = class_folders(root / "train"), class_folders(root / "test")
        unknown = sorted(set(tested) - set(classes))
        if unknown:
            msg = (
                f"folder: {root / 'test'} has the class {unknown[0]!r}, which {root / 'train'} has"
                f" not ({', '.join(classes)}); add images of it there, or remove it"
            )
            raise DataError(msg)
        return {
            part: [
                file for name in names for file in files_of(root / part / name, classes.index(name))
            ]
            for part, names in (("train", classes), ("test", tested))
        }, classes


def _with_columns(parts: Parts, root: Path, metadata: Path) -> Parts:
    """Add the columns of metadata.csv to the files that its column `file` names from the root."""
    rows = _rows(metadata)
    for file in (file for files in parts.values() for file in files):
        if file.path.relative_to(root).as_posix() not in rows:
            msg = f"{metadata}: no row has file={file.path.relative_to(root).as_posix()}; add it"
            raise DataError(msg)
    return {
        part: [replace(f, columns=rows[f.path.relative_to(root).as_posix()]) for f in files]
        for part, files in parts.items()
    }


def _rows(metadata: Path) -> dict[str, dict[str, str]]:
    """Return the further columns of each row by its file."""
    rows: dict[str, dict[str, str]] = {}
    try:
        with metadata.open(newline="", encoding="utf-8-sig") as text:
            table = csv.DictReader(text, strict=True)
            names = [str(name) for name in table.fieldnames or ()]
            others = [name for name in names if name != "file"]
            bad = [name for name in others if not re.fullmatch(r"\w+", name, re.ASCII)]
            if "file" not in names or bad or len(set(names)) < len(names):
                msg = (
                    f"{metadata}: its columns are {', '.join(map(repr, names)) or 'none'}; one has"
                    " to be 'file', each other has a name of letters, digits and _ of its own"
                )
                raise DataError(msg)
            for row in table:
                if None in row or None in row.values() or row["file"] in rows:
                    msg = (
                        f"{metadata}, line {table.line_num}: give each file one row, and a value"
                        " in each column"
                    )
                    raise DataError(msg)
                rows[row["file"]] = {name: row[name] for name in others}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{metadata}: cannot be read as a table of comma-separated values in UTF-8: {error}"
        raise DataError(msg) from error
    return rows
