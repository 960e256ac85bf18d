from __future__ import annotations

import heapq
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.coding import golomb, huffman
from fedcomp.coding.bits import bytes_for
from fedcomp.errors import BitstreamError, CodecError


def optimum(frequencies: list[int]) -> int:
    heap = list(frequencies)
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        pair = heapq.heappop(heap) + heapq.heappop(heap)
        total += pair
        heapq.heappush(heap, pair)
    return total


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 10**6) | st.integers(1, 9), min_size=2, max_size=200))
def test_code_lengths_are_optimal(frequencies: list[int]) -> None:
    lengths = huffman.code_lengths(np.array(frequencies))
    assert sum(2.0**-length for length in lengths.tolist()) == 1
    assert int(lengths @ np.array(frequencies)) == optimum(frequencies)


@pytest.mark.parametrize("limit", [5, 6, 10, 31])
def test_code_lengths_are_limited(limit: int) -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 32:
        fibonacci.append(sum(fibonacci[-2:]))
    lengths = huffman.code_lengths(np.array(fibonacci), limit)
    assert lengths.max() == limit
    assert sum(2.0**-length for length in lengths.tolist()) == 1
    with pytest.raises(CodecError, match="32 symbols"):
        huffman.code_lengths(np.array(fibonacci), 4)


def fibonacci_levels() -> np.ndarray:
    counts = [1, 1]
    while len(counts) < 28:
        counts.append(sum(counts[-2:]))
    return np.repeat(np.arange(28), counts)


def test_long_code_words() -> None:
    """28 Fibonacci frequencies would take 27 bits without the limit."""
    levels = fibonacci_levels()
    np.random.default_rng(0).shuffle(levels)
    data = huffman.encode(levels)
    np.testing.assert_array_equal(huffman.decode(data, levels.size), levels)
    assert 8 * len(data) < 1.001 * optimum(np.bincount(levels).tolist()) + 400


@pytest.mark.parametrize("scale", [0.3, 1, 4, 30, 500])
@pytest.mark.parametrize("step", [1, 3, 100_000])
def test_size_is_close_to_the_entropy(scale: float, step: int) -> None:
    rng = np.random.default_rng(1)
    levels = (np.round(rng.laplace(0, scale, 200_000)) * step).astype(np.int32)
    data = huffman.encode(levels)
    np.testing.assert_array_equal(huffman.decode(data, levels.size), levels)
    counts = np.unique(levels, return_counts=True)[1]
    entropy = -float(counts @ np.log2(counts / levels.size))
    head = 20 + len(counts) * (math.log2(step) / 8 + 3)
    assert entropy <= 8 * len(data) <= entropy + levels.size + 8 * head
    assert 8 * (len(data) - head) < 8 * math.ceil(optimum(counts.tolist()) / 8)


def test_the_head_is_small() -> None:
    levels = np.tile(np.arange(256), 40)
    assert len(huffman.encode(levels)) - levels.size < 20
    laplace = np.clip(np.round(np.random.default_rng(0).laplace(0, 12, 10**6)), -128, 127)
    counts = np.unique(laplace, return_counts=True)[1]
    assert len(huffman.encode(laplace.astype(int))) - optimum(counts.tolist()) / 8 < 120


def test_one_symbol_takes_no_bits() -> None:
    assert len(huffman.encode(np.full(10**6, 77))) == 3 + 4


def test_alphabets() -> None:
    full = np.random.default_rng(0).permutation(1 << 16)
    data = huffman.encode(full)
    assert len(data) < 2 * full.size + 100
    np.testing.assert_array_equal(huffman.decode(data, full.size), full)
    for step in (1, 7):
        with pytest.raises(CodecError, match="65537 different levels"):
            huffman.encode(np.arange((1 << 16) + 1) * step)


def packet(first: int, table: list[int], body: bytes) -> bytes:
    coded = golomb.encode(np.array(table))
    symbols = (len(table) + 1) // 2
    head = bytes([symbols]) + first.to_bytes(4, "little", signed=True)
    return (
        head + len(coded).to_bytes(bytes_for(golomb.MOST_BITS * symbols), "little") + coded + body
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (bytes(5), "0 different symbols"),
        (bytes([11]) + bytes(4), "11 different symbols"),
        (packet(2**31 - 1, [1, 0, 0], b"\0\0"), "beyond int32"),
        (packet(5, [1, 0, -1], b"\0\0"), "beyond int32"),
        (packet(0, [0, 1, 0], b"\0\0"), "code lengths from 0 to 1"),
        (packet(0, [1, 24, 0], b"\0\0"), "code lengths from 1 to 25"),
        (packet(0, [1, 1, 0], b"\0\0"), "complete"),
        (packet(0, [1, 0, 0, 0, 0], b"\0\0"), "complete"),
        (packet(0, [1, 0, 0], b"\0"), "end before"),
        (packet(0, [1, 1, 0, 0, 0], b"\xff\xf1"), "end before"),
        (packet(0, [1, 0, 0], b"\0\x01"), "not zero"),
        (packet(0, [1, 0, 0], b"\0\0\0"), "1 bytes follow"),
        (packet(0, [1, 0, 0], bytes(40)), "40 bytes of code words"),
    ],
    ids=str,
)
def test_lies(data: bytes, problem: str) -> None:
    with pytest.raises(BitstreamError, match=problem):
        huffman.decode(data, 10)
