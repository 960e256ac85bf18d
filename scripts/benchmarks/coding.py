"""The NNC coder beside NNCodec and other coders; its first calls, memory and threads."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.coding.nnc import encode_levels
from fedcomp.coding.nnc_stream import read_model, write_model
from fedcomp.runtime import cpu_count
from scripts.benchmarks.children import run_module
from scripts.benchmarks.coding_cases import cases, laplace, recorded
from scripts.benchmarks.coding_child import WIDTH
from scripts.benchmarks.coding_duel import duel
from scripts.benchmarks.nncodec import nncodec
from scripts.benchmarks.rows import Row, bounded
from scripts.benchmarks.timing import in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FIRST_SECONDS = 1.5
_LARGE_ROWS = 4096
_MEMORY = 3.0
_QP = -44
_THREADS = 2
_SPEEDUP = 1.7


def rows() -> Iterator[Row]:
    """Measure one row after the other."""
    yield from first_calls()
    yield from memory()
    yield from threads()
    with nncodec() as peer:
        for case in cases():
            yield from duel(case, peer)


def first_calls() -> Iterator[Row]:
    """Import of the coder, and the first tensor there and back, in fresh processes."""
    run_module("coding_child", "first")
    results = [run_module("coding_child", "first").written for _ in range(5)]
    if any(result["compiled"] for result in results):
        msg = "numba compiled again what an earlier process had left in its cache"
        raise RuntimeError(msg)
    seconds = [result["seconds"] for result in results]
    yield bounded("first calls of a process", "s", seconds, _FIRST_SECONDS, "from numba's cache")
    with tempfile.TemporaryDirectory() as cache:
        empty = run_module("coding_child", "first", cache).written
    remark = f"{empty['compiled']} loops are compiled, once"
    yield Row("same, empty cache", "s", [empty["seconds"]], remark=remark)


def memory() -> Iterator[Row]:
    """Peak that a call adds to the resident memory, the decoded tensor or the payload included."""
    rng = np.random.default_rng(2)
    shape = (_LARGE_ROWS, WIDTH)
    limits = np.iinfo(np.int32)
    drawn = {
        "Laplace": laplace(rng, shape),
        "random int32": rng.integers(limits.min, limits.max, shape, np.int32, endpoint=True),
    }
    with tempfile.TemporaryDirectory() as text:
        for name, levels in drawn.items():
            given, payload = Path(text) / "levels.npy", Path(text) / "payload.bin"
            np.save(given, levels)
            payload.write_bytes(encode_levels(levels, row_skip=True))
            for what, file in (("encode", given), ("search", given), ("decode", payload)):
                arguments = (what, str(file), str(_LARGE_ROWS))
                times = run_module("coding_child", *arguments).written["times"]
                label = "encode, search" if what == "search" else what
                remark = f"sizes of a tensor of {levels.nbytes / 1e6:.0f} MB; one run"
                yield bounded(f"memory, {name}: {label}", "x", [times], _MEMORY, remark)


def threads() -> Iterator[Row]:
    """Streams of an update of ResNet-18 on two threads and on one, in turns."""
    update = recorded()
    shapes = {name: levels.shape for name, levels in update.items()}
    written: dict[bool, bytes] = {}

    def write(count: int, search: bool) -> float:
        began = time.perf_counter()
        stream = write_model(update, _QP, row_skip=True, search_init=search, threads=count)
        spent = time.perf_counter() - began
        if written.setdefault(search, stream) != stream:
            msg = f"{count} threads write another stream"
            raise RuntimeError(msg)
        return spent

    def read(count: int) -> float:
        began = time.perf_counter()
        model = read_model(written[True], shapes=shapes, threads=count)
        spent = time.perf_counter() - began
        for name, levels in update.items():
            np.testing.assert_array_equal(model.tensors[name].levels, levels)
        return spent

    yield _two_threads("write", lambda count: write(count, search=False))
    yield _two_threads("write, search", lambda count: write(count, search=True))
    yield _two_threads("read", read)


def _two_threads(what: str, call: Callable[[int], float]) -> Row:
    two, one = in_turns(lambda: call(_THREADS), lambda: call(1))
    name, remark = f"ResNet-18 update, {_THREADS} threads: {what}", "beside one; the same bytes"
    if cpu_count() < _THREADS:
        return Row(name, "s", two, kind="peer", remark=f"fewer than {_THREADS} cores")
    return Row(name, "s", two, one, "peer", 1 / _SPEEDUP, remark)
