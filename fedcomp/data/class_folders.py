"""Images that lie in one folder for each class: finding them, and storing them decoded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.data.base import Dataset
from fedcomp.data.files import entries, fill, sound
from fedcomp.data.image_files import SUFFIXES, Frame, ImageFileSettings, read_image
from fedcomp.data.store import fingerprint, stored
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fedcomp.data.preparation import Numbers
    from fedcomp.data.store import Writer
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class File:
    """An image, its class, and what else is known of it by column."""

    path: Path
    target: int
    columns: Mapping[str, str] = field(default_factory=dict)


Parts = dict[str, list[File]]
"""The files of `train` and of `test`."""


def class_folders(root: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    names = sorted(p.name for p in entries(root) if p.is_dir())
    if len(names) < 2:
        found = names[0] if names else "none"
        msg = f"{root}: at least 2 folders are needed, one for each class; found: {found}"
        raise DataError(msg)
    return names


def files_of(folder: Path, target: int) -> list[File]:
    """Return the images directly in a folder, in the order of their names."""
    paths = [path for path in entries(folder) if path.suffix.lower() in SUFFIXES]
    if not paths:
        msg = (
            f"{folder}: no image lies directly in this class folder"
            f" ({', '.join(sorted(SUFFIXES))}); put some there, or remove it"
        )
        raise DataError(msg)
    return [File(path, target) for path in paths]


def load_parts(
    settings: ImageFileSettings,
    data_dir: Path,
    root: Path,
    parts: Parts,
    classes: Sequence[str],
    statistics: tuple[Numbers, Numbers],
) -> Dataset:
    """Return a data set of these files; it is decoded where that was not done before.

    Parameters
    ----------
    statistics
        Mean and standard deviation, of one channel for gray images or of three.
    """
    preparation = settings.preparation(*statistics)
    frame = Frame(settings.size, settings.fit, 1 if len(statistics[0]) == 1 else 3)
    key = {
        **settings.key(frame),
        "root": os.path.relpath(root, data_dir),
        "columns": [list(file.columns.items()) for files in parts.values() for file in files],
    }
    for part, files in parts.items():
        key[part] = fingerprint([file.path for file in files], root)

    def build(writer: Writer) -> None:
        _write(writer, root, parts, classes, frame, skip=settings.skip_corrupt)

    store = stored(data_dir, settings.name, key, build)
    train, test = (store.samples(part, preparation) for part in ("train", "test"))
    return Dataset(train, test, len(classes), "classification", store.skipped, tuple(classes))


def _write(
    writer: Writer,
    root: Path,
    parts: Parts,
    classes: Sequence[str],
    frame: Frame,
    *,
    skip: bool,
) -> None:
    def read(file: File) -> tuple[Array]:
        return (read_image(file.path, frame),)

    found = {part: sound(files, read, root, skip=skip) for part, files in parts.items()}
    kept = {part: files for part, (files, _) in found.items()}
    for target, name in enumerate(classes):
        if not any(file.target == target for file in kept["train"]):
            first = next(why for file, why in found["train"][1] if file.target == target)
            msg = f"class {name}: none of its training images can be read; the first: {first}"
            raise DataError(msg)
    if not kept["test"]:
        problems = [why for _, why in found["test"][1]]
        lost = f"none can be read; the first: {problems[0]}" if problems else "add some"
        msg = f"{root}: no image is left to test; {lost}"
        raise DataError(msg)
    columns = _codes(kept)
    for part, files in kept.items():
        fill([writer.array(f"{part}-inputs", (len(files), *frame.shape), "uint8")], files, read)
        targets = np.array([file.target for file in files], dtype=np.int64)
        writer.labels(part, targets, None, columns[part])
    writer.notes["skipped"] = [why for _, left_out in found.values() for _, why in left_out]


def _codes(parts: Parts) -> dict[str, dict[str, Array]]:
    """Return each part's columns as integers: one for each value, the same in all parts."""
    every = [file for files in parts.values() for file in files]
    cuts = np.cumsum([len(files) for files in parts.values()])[:-1]
    found: dict[str, dict[str, Array]] = {part: {} for part in parts}
    for name in every[0].columns:
        _, codes = np.unique([file.columns[name] for file in every], return_inverse=True)
        for part, values in zip(parts, np.split(codes.astype(np.int64), cuts), strict=True):
            found[part][name] = values
    return found
