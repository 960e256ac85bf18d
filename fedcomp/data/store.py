"""Decoded data sets as arrays on disk, mapped into memory: all processes share one copy.

    <data_dir>/.fedcomp/<name>-<hash of the key>/<array>.npy and notes.json

The key says what the arrays depend on: settings, and the files they were decoded from.  A store is
written beside its place and then renamed, so that it is there whole or not at all; one that was
damaged later is built anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.data.base import Samples
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fedcomp.data.preparation import Preparation
    from fedcomp.tensors import Array

log = logging.getLogger(__name__)

FORMAT = 2
"""Part of every key: stores of another layout are not read."""

_ABANDONED_S = 24 * 3600
"""So old is what nobody writes any more: its process was killed."""


class Writer:
    """Takes the arrays of a new store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.notes: dict[str, Any] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an array of zeros to be filled, which lies on disk."""
        path = self._folder / f"{name}.npy"
        array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and no signal later
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array

    def put(self, name: str, values: Array) -> None:
        """Write an array."""
        np.save(self._folder / f"{name}.npy", values, allow_pickle=False)

    def labels(
        self,
        part: str,
        targets: Array,
        labels: Array | None = None,
        columns: Mapping[str, Array] | None = None,
    ) -> None:
        """Write what belongs to inputs that were written as an array `<part>-inputs`."""
        self.put(f"{part}-targets", targets)
        if labels is not None:
            self.put(f"{part}-labels", labels)
        self.notes["columns"] = list(columns or {})
        for name, values in (columns or {}).items():
            self.put(f"{part}-column-{name}", values)


class Store:
    """The arrays of a store by name, read when they are touched, and its notes."""

    def __init__(self, folder: Path) -> None:
        self.notes: dict[str, Any] = json.loads((folder / "notes.json").read_text("utf-8"))
        self._arrays: dict[str, Array] = {
            name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in self.notes["arrays"]
        }

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    @property
    def skipped(self) -> tuple[str, ...]:
        """The samples that were left out, see `Dataset`."""
        return tuple(self.notes.get("skipped", ()))

    def samples(self, part: str, preparation: Preparation) -> Samples:
        """Return a part of a data set."""
        return Samples(
            self[f"{part}-inputs"],
            self[f"{part}-targets"],
            preparation,
            self._arrays.get(f"{part}-labels"),
            {name: self[f"{part}-column-{name}"] for name in self.notes.get("columns", ())},
        )


def stored(
    data_dir: Path, name: str, key: Mapping[str, Any], build: Callable[[Writer], None]
) -> Store:
    """Return the store of a key; `build` fills it where it is not there yet.

    Parameters
    ----------
    key
        Values for JSON; those that decide what the arrays hold.
    """
    folders = _places(data_dir, name, {**key, "format": FORMAT})
    for folder in folders:
        if folder.is_dir():
            try:
                return Store(folder)
            except Exception as error:  # damaged files make numpy raise nearly anything
                _remove(folder, error)
    for folder in folders:
        beside = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.tmp")
        try:
            beside.mkdir(parents=True)
        except OSError:
            continue
        log.info("decoding to %s", folder)
        try:
            _fill(beside, build)
            _rename(beside, folder)
        except OSError as error:
            msg = f"{name}: its decoded copy cannot be written to {folder.parent}: {error}"
            raise DataError(msg) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        _sweep(folder.parent, name)
        return Store(folder)
    msg = (
        f"{name}: its decoded copy cannot be written, neither to {folders[0].parent} nor to"
        f" {folders[1].parent}; make one of them writable"
    )
    raise DataError(msg)


def fingerprint(paths: Iterable[Path], root: Path) -> str:
    """Return a hash of the files' places, sizes and times of change, for keys."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        try:
            stat = path.stat()
            state = f"{stat.st_size}|{stat.st_mtime_ns}"
        except OSError:  # an error, or left out, when it is read
            state = "missing"
        digest.update(os.fsencode(path.relative_to(root)))
        digest.update(f"|{state}\n".encode())
    return digest.hexdigest()


def _fill(folder: Path, build: Callable[[Writer], None]) -> None:
    writer = Writer(folder)
    build(writer)
    writer.notes["arrays"] = sorted(path.stem for path in folder.glob("*.npy"))
    (folder / "notes.json").write_text(json.dumps(writer.notes), "utf-8")


def _rename(beside: Path, folder: Path) -> None:
    try:
        beside.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise


def _remove(folder: Path, damage: Exception) -> None:
    why = str(damage) or type(damage).__name__
    log.warning("%s is damaged and is built anew: %s", folder, why)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        msg = f"{folder}: this decoded copy is damaged ({why}) and cannot be removed; delete it"
        raise DataError(msg) from damage


def _sweep(parent: Path, name: str) -> None:
    """Remove what killed processes left of a data set."""
    for path in parent.glob(f"{name}-*.tmp"):
        with suppress(OSError):  # somebody else may be as quick
            if time.time() - path.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(path, ignore_errors=True)


def _places(data_dir: Path, name: str, key: Mapping[str, Any]) -> list[Path]:
    """Return where a store may lie: with the data, or where that cannot be written, at home.

    What lies with the data stays right when they are moved; at home the data of several folders
    meet, so the key names theirs.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    places = []
    for parent, known in (
        (data_dir / ".fedcomp", key),
        (home / "fedcomp", {**key, "data_dir": os.path.realpath(data_dir)}),
    ):
        text = json.dumps(known, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        places.append(parent / f"{name}-{digest}")
    return places
