from __future__ import annotations

import hashlib
from math import gcd

import numpy as np
import pytest

from fedcomp.codecs.rotation import blocks, rotated, stride, unrotated


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def matrix(size: int, seed: int = 1) -> np.ndarray:
    return np.stack([rotated(row, generator(seed)) for row in np.eye(size)], axis=1)


def hadamard(size: int) -> np.ndarray:
    """H of the largest power of two and of what is left, by Kronecker products."""
    out = np.zeros((size, size))
    at = 0
    while at < size:
        part = np.ones((1, 1))
        while 2 * len(part) <= size - at:
            part = np.kron([[1, 1], [1, -1]], part) / np.sqrt(2)
        out[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    return out


def explicit(size: int, seed: int = 1) -> np.ndarray:
    """The product of H, D and P as matrices, signs taken bit by bit."""
    passes = 2 if size.bit_count() == 1 else 3
    words = (size + 63) // 64
    raw = generator(seed).bit_generator.random_raw(passes * words).tolist()
    out = np.eye(size)
    for number in range(passes):
        if number and passes == 3:
            moved = np.empty_like(out)
            moved[[i * stride(size) % size for i in range(size)]] = out
            out = moved
        row = raw[number * words : (number + 1) * words]
        signs = [1 - 2 * (row[i // 64] >> i % 64 & 1) for i in range(size)]
        out = hadamard(size) @ (np.array(signs)[:, None] * out)
    return out


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 8, 13, 63, 64, 65, 100, 128, 256, 300])
def test_it_is_the_product_of_matrices(size: int) -> None:
    assert np.allclose(matrix(size), explicit(size), atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 16, 108, 511, 512, 1000])
def test_it_is_orthogonal(size: int) -> None:
    found = matrix(size).astype(np.float64)
    assert np.allclose(found @ found.T, np.eye(size), atol=2e-6)


@pytest.mark.parametrize("size", [0, 1, 3, 1000, 2**16, 2**16 + 1, 2**17 - 1, 2**17, 200_001])
def test_the_inverse_and_the_norm(size: int) -> None:
    values = np.random.default_rng(2).laplace(size=size).astype(np.float32)
    before = values.copy()
    turned = rotated(values, generator())
    assert turned.dtype == np.float32
    assert turned.shape == values.shape
    assert np.array_equal(values, before)
    norm = np.linalg.norm(values.astype(np.float64))
    assert np.linalg.norm(turned.astype(np.float64)) == pytest.approx(norm, rel=1e-6)
    back = unrotated(turned, generator())
    assert np.linalg.norm(back.astype(np.float64) - values) <= 1e-6 * norm


def test_other_types_are_taken() -> None:
    values = np.random.default_rng(2).normal(size=100)
    for dtype in (np.float16, np.float64):
        given = values.astype(dtype)
        expected = rotated(given.astype(np.float32), generator())
        assert np.array_equal(rotated(given, generator()), expected)


def test_blocks_are_rotated_apart_with_other_signs() -> None:
    values = np.ones(3 * 2**16 + 5, np.float32)
    turned = rotated(values, generator())
    parts = [turned[block] for block in blocks(values.size)]
    assert len(parts) == 3
    assert not np.array_equal(parts[0], parts[1])
    other = values.copy()
    other[0] = 7
    changed = rotated(other, generator()) != turned
    assert changed[: 2**16].mean() > 0.9
    assert not changed[2**16 :].any()


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (0, [0]),
        (1, [1]),
        (2**16 - 1, [2**16 - 1]),
        (2**17 - 1, [2**17 - 1]),
        (2**17, [2**16, 2**16]),
        (3 * 2**16 + 9, [2**16, 2**16, 2**16 + 9]),
    ],
)
def test_blocks(size: int, lengths: list[int]) -> None:
    assert [b.stop - b.start for b in blocks(size)] == lengths
    assert [b.start for b in blocks(size)][1:] == [b.stop for b in blocks(size)][:-1]


def test_strides_visit_every_place() -> None:
    assert all(gcd(stride(size), size) == 1 for size in range(1, 3000))
    ratios = [stride(size) / size for size in (999, 10_007, 65_537, 131_071)]
    assert ratios == pytest.approx([(5**0.5 - 1) / 2] * 4, abs=2e-3)


@pytest.mark.parametrize("size", [64, 108, 127, 255, 1000])
def test_a_spike_anywhere_is_spread_evenly(size: int) -> None:
    for place in (0, size // 2, size - 2, size - 1):
        spike = np.eye(1, size, place)[0]
        turned = np.stack([rotated(spike, generator(seed)) for seed in range(300)])
        assert np.abs(np.square(turned).mean(axis=0) * size - 1).mean() < 0.25
        assert np.abs(turned.mean(axis=0) * np.sqrt(size)).max() < 5 / np.sqrt(300)


@pytest.mark.parametrize("size", [2**16, 2**16 + 2**14 + 3])
@pytest.mark.parametrize("spikes", [1, 2, 3, 1000])
def test_few_weights_become_normal_values(size: int, spikes: int) -> None:
    values = np.zeros(size, np.float32)
    values[np.random.default_rng(4).choice(size, spikes, replace=False)] = 1
    turned = rotated(values, generator()).astype(np.float64) * np.sqrt(size / spikes)
    sorted_ = np.sort(turned)
    normal = np.sort(np.random.default_rng(5).normal(size=size))
    assert np.square(sorted_ - normal).mean() < 1e-3
    assert np.mean(turned**4) == pytest.approx(3, rel=0.05)


def test_the_bits_are_the_same_for_ever() -> None:
    values = (np.arange(2**17 + 333) ** 2 % 2003 - 1001).astype(np.float32)
    digests = [
        hashlib.sha256(turn(values, generator()).astype("<f4").tobytes()).hexdigest()[:16]
        for turn in (rotated, unrotated)
    ]
    assert digests == ["2e89078f3807a40b", "4bdee486fc699312"]
