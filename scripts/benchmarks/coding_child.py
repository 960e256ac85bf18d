"""A child process: the first calls of the NNC coder, or the memory that one call takes.

Arguments: FOLDER first [CACHE], with another folder for numba's cache; or
FOLDER encode|search|decode INPUT ROWS, with a file of ROWS × 4608 levels (.npy) or their payload.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.benchmarks.children import finish, fresh_peak, peak_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 4608


def main() -> None:
    folder, what, *rest = sys.argv[1:]
    if what == "first":
        if rest:
            os.environ["NUMBA_CACHE_DIR"] = rest[0]
        finish(Path(folder), first_calls())
    finish(Path(folder), {"times": additional_memory(what, Path(rest[0]), int(rest[1]))})


def first_calls() -> dict[str, Any]:
    """Time the import of the coder and numba, and the first tensor there and back.

    `compiled` counts the loops that were not in the cache.
    """
    levels = np.array([[0, 1, -2, 0], [0, 0, 0, 0]], np.int32)
    began = time.perf_counter()
    from fedcomp.coding.nnc import decode_levels, encode_levels

    decode_levels(encode_levels(levels, row_skip=True, search_init=True), levels.shape)
    seconds = time.perf_counter() - began

    from fedcomp.coding import nnc_decode, nnc_encode, nnc_search

    loops = [
        value
        for module in (nnc_decode, nnc_encode, nnc_search)
        for value in vars(module).values()
        if hasattr(value, "stats")
    ]
    return {
        "seconds": seconds,
        "compiled": sum(sum(loop.stats.cache_misses.values()) for loop in loops),
    }


def additional_memory(what: str, file: Path, rows: int) -> float:
    """Return the peak of the resident memory that a call adds, in sizes of the int32 tensor."""
    from fedcomp.coding.nnc import decode_levels, encode_levels

    def decode(payload: Any, rows: int) -> None:
        decode_levels(payload, (rows, WIDTH))

    def encode(levels: Any, _rows: int) -> None:
        encode_levels(levels, row_skip=True, search_init=what == "search")

    small = np.eye(2, WIDTH, dtype=np.int32)
    call: Callable[[Any, int], None] = decode if what == "decode" else encode
    if what == "decode":
        call(encode_levels(small, row_skip=True), 2)
        given = file.read_bytes()
    else:
        call(small, 2)
        given = np.load(file)
    before = fresh_peak()
    call(given, rows)
    return (peak_bytes() - before) / (4 * rows * WIDTH)


if __name__ == "__main__":
    main()
