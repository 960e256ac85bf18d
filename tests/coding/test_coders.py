"""What all coders of integer arrays have in common."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import tracemalloc
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.coding import deflate, fixed, golomb, huffman, zstd
from fedcomp.errors import BitstreamError, CodecError

CODERS = [fixed, golomb, deflate, zstd, huffman]
LOWEST, HIGHEST = -(2**31), 2**31 - 1
each_coder = pytest.mark.parametrize("coder", CODERS, ids=lambda m: m.__name__.rsplit(".", 1)[1])


def returns(coder: ModuleType, levels: np.ndarray) -> bytes:
    data = coder.encode(levels)
    assert isinstance(data, bytes)
    for given_bytes in (data, memoryview(data)):
        decoded = coder.decode(given_bytes, levels.size)
        assert decoded.dtype == np.int32
        assert decoded.shape == (levels.size,)
        np.testing.assert_array_equal(decoded, levels.reshape(-1))
    return data


@st.composite
def int_arrays(draw: st.DrawFn) -> np.ndarray:
    width = draw(st.integers(0, 31))
    shift = draw(st.sampled_from([0, 0, 1000, LOWEST, HIGHEST]))
    small = st.integers(max(-(1 << width) + shift, LOWEST), min((1 << width) + shift, HIGHEST))
    edges = st.sampled_from([LOWEST, LOWEST + 1, -1, 0, 1, HIGHEST - 1, HIGHEST])
    element = draw(st.sampled_from([small, edges, small | edges, small | st.just(0)]))
    values = draw(st.lists(element, max_size=80))
    if draw(st.booleans()):
        values = [v for value in values for v in [0] * draw(st.integers(0, 40)) + [value]]
    return np.array(values, dtype=np.int64)


@each_coder
@settings(max_examples=150, deadline=None)
@given(levels=int_arrays())
def test_round_trip(coder: ModuleType, levels: np.ndarray) -> None:
    returns(coder, levels)


def shapes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    sparse = np.where(rng.random(300_000) < 0.01, rng.integers(-300, 300, 300_000), 0)
    return {
        "empty": np.empty((0, 3), dtype=np.int32),
        "one": np.array([-17]),
        "scalar": np.array(5),
        "lowest": np.array([LOWEST]),
        "highest": np.array([HIGHEST]),
        "extremes": np.array([LOWEST, HIGHEST] * 50),
        "wide": rng.integers(LOWEST, HIGHEST, 20_000, endpoint=True),
        "zeros": np.zeros((300, 1000), dtype=np.int8),
        "constant": np.full(1001, -3),
        "huge row": sparse.reshape(1, -1),
        "last": np.arange(200_000) // 199_999,
        "unsigned": rng.integers(0, 256, 5000).astype(np.uint8),
        "bytes": rng.integers(-128, 128, 5000),
        "shorts": rng.integers(-(2**15), 2**15, 5000),
        "transposed": rng.integers(-9, 9, (30, 50)).T,
        "strided": rng.integers(-9, 9, 500)[::3],
        "big-endian": rng.integers(-900, 900, 500).astype(">i4"),
        "uint64": np.array([0, HIGHEST], dtype=np.uint64),
    }


@each_coder
@pytest.mark.parametrize("name", shapes())
def test_shapes(coder: ModuleType, name: str) -> None:
    returns(coder, shapes()[name])


@each_coder
def test_sizes_of_nothing(coder: ModuleType) -> None:
    assert coder.encode(np.empty(0, dtype=np.int32)) == b""
    assert len(coder.encode(np.zeros(100_000, dtype=np.int32))) < 140


@each_coder
@pytest.mark.parametrize(
    "levels",
    [
        np.array([1.0, 2.0]),
        np.array([True, False]),
        np.array(["1"]),
        np.array([HIGHEST + 1]),
        np.array([LOWEST - 1, 0]),
        np.array([2**63], dtype=np.uint64),
        np.array([], dtype=np.float32),
    ],
    ids=str,
)
def test_what_no_coder_takes(coder: ModuleType, levels: np.ndarray) -> None:
    with pytest.raises(
        CodecError, match=r"levels must be an array of integers|levels from .* do not fit"
    ):
        coder.encode(levels)


@each_coder
def test_wrong_lengths(coder: ModuleType) -> None:
    levels = np.random.default_rng(0).integers(-5, 5, 200)
    data = coder.encode(levels)
    for end in range(len(data)):
        with pytest.raises(BitstreamError):
            coder.decode(data[:end], 200)
    with pytest.raises(BitstreamError):
        coder.decode(data + b"\0", 200)
    with pytest.raises(BitstreamError):
        coder.decode(b"\0", 0)
    with pytest.raises(CodecError):
        coder.decode(data, -1)


def mutate(rng: np.random.Generator, data: bytes, count: int) -> tuple[bytes, int]:
    raw = bytearray(data)
    match rng.integers(8):
        case 0:
            del raw[rng.integers(len(raw)) :]
        case 1:
            raw += rng.bytes(int(rng.integers(1, 20)))
        case 2:
            at = int(rng.integers(len(raw)))
            raw[at : at + 4] = b"\xff" * 4
        case 3:
            raw[rng.integers(min(len(raw), 12))] = rng.integers(256)
        case 4:
            count = int(rng.choice([0, 1, count - 1, count + 1, 10 * count, 100_000]))
        case 5:
            raw = bytearray(rng.bytes(int(rng.integers(1, 200))))
        case 6:
            raw[rng.integers(len(raw)) :] = bytes(int(rng.integers(300)))
        case _:
            for _ in range(rng.integers(1, 6)):
                raw[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
    return bytes(raw), count


@each_coder
def test_mutations(coder: ModuleType) -> None:
    rng = np.random.default_rng(20)
    seeds = [
        rng.integers(-2, 2, 400),
        np.where(rng.random(2000) < 0.03, rng.choice([-1, 1], 2000), 0),
        np.round(rng.laplace(0, 30, 500)).astype(np.int64),
        rng.integers(LOWEST, HIGHEST, 60),
        np.floor(rng.exponential(1, 3000) ** 4).astype(np.int64),
    ]
    packets = [(coder.encode(levels), levels.size) for levels in seeds]
    problems = []
    for number in range(2000):
        data, count = mutate(rng, *packets[number % len(packets)])
        start = time.perf_counter()
        try:
            decoded = coder.decode(data, count)
            assert decoded.dtype == np.int32
            assert decoded.shape == (count,)
        except BitstreamError as error:
            problems.append(str(error))
        assert time.perf_counter() - start < 1
    assert len(problems) > 600
    assert all(problems)


@each_coder
def test_allocation_is_bounded_by_the_count(coder: ModuleType) -> None:
    data = coder.encode(np.zeros(30_000_000, dtype=np.int8))
    coder.decode(coder.encode(np.arange(9)), 9)  # compiles outside the measurement
    tracemalloc.start()
    try:
        for lie in (data, data[:1] + b"\xff" * 100, b"\x01" + b"\xff" * 100):
            with contextlib.suppress(BitstreamError):
                coder.decode(lie, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


LOOPS = (
    fixed._pack,
    golomb._survey,
    golomb._measure,
    golomb._write,
    huffman._count,
    huffman._write,
)


def test_read_only_levels_compile_nothing_more() -> None:
    """Every loop of a coder is compiled for one kind of levels, whatever the caller gives."""
    rng = np.random.default_rng(8)
    near, far = rng.integers(-9, 9, 300).astype(np.int32), np.array([LOWEST, HIGHEST, 0, 0])
    for writeable in (True, False):
        for levels in (near, near.astype(np.int64), far):
            levels.flags.writeable = writeable
            for coder in CODERS:
                returns(coder, levels)
    for loop in LOOPS:
        assert not any(arguments[0].mutable for arguments in kernel_of(loop).signatures)


def kernel_of(loop: Any) -> Any:
    """Return the numba function behind a loop that is compiled late."""
    (kernel,) = (cell.cell_contents for cell in loop.__closure__)
    return kernel()


def test_imports_are_light() -> None:
    names = ", ".join(f"fedcomp.coding.{m.__name__.rsplit('.', 1)[1]}" for m in CODERS)
    program = f"import {names}, sys; sys.exit('numba' in sys.modules or 'zstandard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
