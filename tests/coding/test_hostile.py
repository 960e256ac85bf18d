"""6,020 damaged packets of plain coders, and whether damage would be noticed; see `hostile`."""

from __future__ import annotations

import random
import time
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcomp.coding import deflate, fixed, golomb, huffman, zstd
from fedcomp.coding.bits import bytes_for
from tests.coding.hostile import Reader, Sample, attack, mutate

LOWEST, HIGHEST = -(2**31), 2**31 - 1
HUFFMAN_BYTES = 68
"""Eight tables over the symbols, of which there are as many as levels at the most, and levels."""


def reader(coder: ModuleType, count: int) -> Reader:
    def read(data: bytes) -> None:
        levels = coder.decode(data, count)
        assert levels.dtype == np.int32
        assert levels.shape == (count,)

    return Reader(read, (HUFFMAN_BYTES if coder is huffman else 12) * count)


def arrays() -> list[NDArray[Any]]:
    rng = np.random.default_rng(20)
    return [
        rng.integers(-2, 2, 400),
        np.where(rng.random(2000) < 0.03, rng.choice([-1, 1], 2000), 0),
        np.round(rng.laplace(0, 30, 500)).astype(np.int64),
        rng.integers(LOWEST, HIGHEST, 60, endpoint=True),
        np.floor(rng.exponential(1, 3000) ** 4).astype(np.int64),
        np.array([LOWEST, HIGHEST, 0] * 20),
        np.zeros(1_000_000, np.int8),
        np.array([-7]),
    ]


@pytest.mark.parametrize(
    "coder", [fixed, golomb, deflate, zstd, huffman], ids=lambda m: m.__name__.rsplit(".", 1)[1]
)
def test_plain_coders(coder: ModuleType) -> None:
    samples = [Sample(coder.encode(levels), reader(coder, levels.size)) for levels in arrays()]
    counts = (0, 1, 2, 59, 399, 401, 1999, 2001, 30_000, 65_537, 1_000_000)
    strangers = [reader(coder, count) for count in counts]
    outcomes = attack(coder.__name__, samples, 1000, strangers)
    assert outcomes["refused"] > 500
    assert outcomes["read"] > 20


def forged(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Return Huffman's bytes for 3000 levels with a random code, mostly a complete one."""
    lengths = [1, 1]
    deepest = rng.random() < 0.5
    for _ in range(rng.choice([0, 1, 5, 21, 22, 23, 100])):
        at = -1 if deepest else rng.randrange(len(lengths))
        lengths.append(lengths[at] + 1)
        lengths[at] += 1
    rng.shuffle(lengths)
    shortest = min(lengths)  # zeros are its first code word
    gaps = [rng.choice([0, 0, 1, 9]) for _ in lengths[1:]]
    if rng.random() < 0.3:
        gaps[-1] = rng.choice([-1, -2, LOWEST, HIGHEST])
    if rng.random() < 0.3:
        lengths[rng.randrange(len(lengths))] += rng.choice([-1, 1, 30, -60, 2**30])
    first = rng.choice([LOWEST, -1, 0, HIGHEST - 300])
    table = golomb.encode(np.array([*np.diff(lengths, prepend=0), *gaps], np.int64))
    if rng.random() < 0.2:
        table = mutate(rng, table, other)
    size = bytes_for(golomb.MOST_BITS * len(lengths))
    head = len(lengths).to_bytes(2, "little") + first.to_bytes(4, "little", signed=True)
    head += (len(table) & (1 << 8 * size) - 1).to_bytes(size, "little")
    body = rng.choice([data, bytes(375 * shortest), rng.randbytes(rng.randrange(2000))])
    return head + table + body


def test_forged_huffman_codes() -> None:
    rng = np.random.default_rng(24)
    level_count = 3000
    data = huffman.encode(rng.geometric(0.3, level_count))
    samples = [Sample(data, reader(huffman, level_count))]
    outcomes = attack("codes", samples, 1000, damage=forged)
    assert outcomes["refused"] > 500
    assert outcomes["read"] > 20


def test_every_symbol_of_a_large_alphabet_has_room() -> None:
    levels = np.random.default_rng(25).permutation(1 << 16) - (1 << 15)
    sample = Sample(huffman.encode(levels), reader(huffman, levels.size))
    assert attack("alphabet", [sample], 20)["refused"]


def test_an_attack_finds_what_is_wrong() -> None:
    good = b"good bytes"

    def grown(data: bytes) -> None:
        np.empty(1 << 20)

    def crashed(data: bytes) -> None:
        if data != good:
            raise IndexError

    def slow(data: bytes) -> None:
        start = time.process_time()
        while data != good and time.process_time() < start + 1.1:
            pass

    for read, problem in ((grown, "bytes were taken"), (crashed, "IndexError"), (slow, "it took")):
        with pytest.raises(pytest.fail.Exception, match=rf"mutation 'x' \d.*{problem}"):
            attack("x", [Sample(good, Reader(read, 0))], 20)


def test_mutations_are_many_and_the_same_at_every_run() -> None:
    first, second = (
        [mutate(random.Random(f"same {n}"), b"0123456789" * 9, b"other") for n in range(500)]
        for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 400
