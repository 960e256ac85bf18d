"""Writing files on a disk that may be full, to a folder that may be gone."""

from __future__ import annotations

import csv
import io
import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.numpy import save_file

from fedcomp.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fedcomp.tensors import Tensors


@contextmanager
def writing() -> Iterator[None]:
    """Turn what the machine says against writing into a `StorageError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        msg = (
            f"the run cannot go on, its files cannot be written: {error}; what was written before"
            " stays; make room, or name a folder on another disk (hydra.run.dir)"
        )
        raise StorageError(msg) from error


def save_tensors(tensors: Tensors, path: Path) -> None:
    """Write a file of tensors that is either whole or not there."""
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def save_text(text: str, path: Path) -> None:
    """Write a text; until it is whole the old one stays."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_bytes(data: bytes, path: Path) -> None:
    """Write a file; until it is whole the old one stays."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def save_json(value: object, path: Path) -> None:
    """Write a value as JSON; until it is whole the old one stays."""
    save_text(json.dumps(value, indent=2) + "\n", path)


@contextmanager
def replacing(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Lend a name, by default the path and `.tmp`, for a file that then takes its place."""
    temporary = temporary or path.with_name(f"{path.name}.tmp")
    with removed_unless_whole(temporary):
        yield temporary
        temporary.replace(path)


@contextmanager
def removed_unless_whole(path: Path) -> Iterator[None]:
    """Leave nothing of a file for which the disk has no room."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


class Table:
    """A CSV file that ends with a whole row at any moment."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Begin a file, or go on with one after so many bytes of it."""
        # Without a buffer, which would be tried again when the file is closed.
        self._file = path.open("r+b" if length else "wb", buffering=0)
        self._file.truncate(length)
        self._file.seek(length)

    @property
    def length(self) -> int:
        """How many bytes there are."""
        return self._file.tell()

    def add(self, *rows: Iterable[Any]) -> None:
        """Add all rows, or none of them."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        left = memoryview(text.getvalue().encode())
        end = self._file.tell()
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.truncate(end)
            self._file.seek(end)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()
