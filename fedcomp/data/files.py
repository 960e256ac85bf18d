"""Files of samples: what lies in a folder, and reading many of them in threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from fedcomp.errors import DataError
from fedcomp.runtime import cpu_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fedcomp.tensors import Array

T = TypeVar("T")

_BATCH = 32


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted, without hidden entries."""
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        msg = f"{folder}: the folder cannot be read: {error.strerror}"
        raise DataError(msg) from error
    for path in found:
        try:
            path.name.encode()
        except UnicodeEncodeError as error:
            msg = f"{folder}: the name {path.name!r} is not UTF-8; rename it"
            raise DataError(msg) from error
    return found


def below(folder: Path) -> list[Path]:
    """Return the files in a folder and its folders, sorted; links to folders are not followed."""
    found = []
    for path in entries(folder):
        if path.is_fifo() or path.is_socket():  # nobody knows whether these ever end
            continue
        if not path.is_dir():
            found.append(path)
        elif not path.is_symlink():
            found += below(path)
    return found


def sound(
    samples: Sequence[T], read: Callable[[T], object], root: Path, *, skip: bool
) -> tuple[list[T], list[tuple[T, str]]]:
    """Return all samples or, with `skip`, those that can be read; and the others, each with why.

    The reasons name files from `root`.  What is left out has to be known before the arrays are
    made: with `skip` all is read twice.
    """
    if not skip:
        return list(samples), []

    def problem(sample: T) -> str | None:
        try:
            read(sample)
        except DataError as error:
            return str(error).replace(f"{root}{os.sep}", "")
        return None

    reasons = list(zip(samples, _in_threads(samples, problem), strict=True))
    kept = [sample for sample, reason in reasons if reason is None]
    return kept, [(sample, reason) for sample, reason in reasons if reason is not None]


def fill(
    arrays: Sequence[Array], samples: Sequence[T], read: Callable[[T], tuple[Array, ...]]
) -> None:
    """Read the samples and put what each gives at its place in the arrays."""

    def put(numbered: tuple[int, T]) -> None:
        place, sample = numbered
        for array, values in zip(arrays, read(sample), strict=True):
            array[place] = values

    try:
        _in_threads(list(enumerate(samples)), put)
    except DataError as error:
        msg = f"{error}; mend it, or leave such samples out with dataset.skip_corrupt=true"
        raise DataError(msg) from error


def _in_threads(items: Sequence[T], work: Callable[[T], Any]) -> list[Any]:
    """Return the results in order; decoders let go of the interpreter, so threads do for them."""
    starts = range(0, len(items), _BATCH)
    with ThreadPoolExecutor(cpu_count()) as pool:
        batches = pool.map(lambda start: [work(i) for i in items[start : start + _BATCH]], starts)
        return [result for batch in batches for result in batch]
