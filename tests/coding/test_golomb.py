from __future__ import annotations

import math

import numpy as np
import pytest

from fedcomp.coding import golomb
from fedcomp.errors import BitstreamError


def position_bits(density: float) -> float:
    """Return the bits expected for the run before a non-zero, b* + 1/(1 − (1 − p)^(2^b*))."""
    b = golomb.rice_parameter(density)
    return b + 1 / (1 - math.pow(1 - density, 2**b))


def ternary(density: float, count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.where(rng.random(count) < density, rng.choice([-1, 1], count), 0)


@pytest.mark.parametrize(("density", "bits"), [(1 / 400, 10.11), (0.01, 8.11)])
def test_closed_form_of_stc(density: float, bits: float) -> None:
    """The published numbers count the position; the ratio counts the sign, too."""
    assert position_bits(density) == pytest.approx(bits, abs=0.005)
    ratio = {10.11: 1152, 8.11: 351}[bits]
    assert 32 / density / (position_bits(density) + 1) == pytest.approx(ratio, abs=0.5)


@pytest.mark.parametrize("density", [0.5, 0.2, 0.04, 0.01, 1 / 400, 1e-4])
def test_size_of_ternary_levels(density: float) -> None:
    levels = ternary(density, 4_000_000)
    nonzeros = np.count_nonzero(levels)
    per_nonzero = 8 * len(golomb.encode(levels)) / nonzeros - 1
    assert per_nonzero == pytest.approx(position_bits(nonzeros / levels.size), rel=0.02)
    entropy = -math.log2(density) - (1 - density) / density * math.log2(1 - density)
    assert per_nonzero < entropy * 1.05 + 0.05 + 64 / nonzeros


@pytest.mark.parametrize("scale", [1, 5, 50, 3000, 10**6])
def test_size_of_magnitudes(scale: int) -> None:
    rng = np.random.default_rng(4)
    levels = np.where(rng.random(200_000) < 0.05, np.round(rng.laplace(0, scale, 200_000)), 0)
    found = levels[levels != 0].astype(np.int64)
    entropy = math.log2(2 * math.e * scale)
    expected = position_bits(len(found) / levels.size) + entropy
    assert 8 * len(golomb.encode(levels.astype(np.int32))) / len(found) < expected + 0.9


def test_parameter_rule() -> None:
    assert golomb.rice_parameter(1) == 0
    assert golomb.rice_parameter(1e-30) == golomb.MAX_RICE
    for density in (0.3, 0.1, 0.03, 0.001):
        b = golomb.rice_parameter(density)
        best = min(range(20), key=lambda n: n + 1 / (1 - (1 - density) ** 2**n))
        assert abs(best - b) <= 1


@pytest.mark.parametrize(
    ("data", "count", "problem"),
    [
        ([11], 10, "11 of 10 levels"),
        ([1, 33, 0, 1], 10, "Rice parameter 33"),
        ([1, 0, 33, 1], 10, "order 32"),
        ([1, 0, 0, *[0] * 200], 10, "200 bytes"),
        ([1, 0, 0, 0], 10, "end before"),
        ([1, 1, 0, 0b11], 1, "longer than what is left"),
        ([1, 0, 0, 0, 0b10000], 10, "longer than what is left"),
        ([1, 1, 0, 0b0, 0b10], 10, "longer than what is left"),
        ([1, 0, 0, 0b101], 10, "not zero"),
        ([1, 0, 0, 0b01, 0], 10, "1 bytes follow"),
        ([1, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], 1, "longer than what is left"),
        ([1, 0, 32, 0b11111101, 255, 255, 255, 0b11], 1, "beyond int32"),
        ([1, 0, 32, 0b101], 1, "end before"),
    ],
    ids=str,
)
def test_lies(data: list[int], count: int, problem: str) -> None:
    with pytest.raises(BitstreamError, match=problem):
        golomb.decode(bytes(data), count)
