from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedcomp.codecs.grid import STEP_DENSITY, Grid, grid_for, step_of
from fedcomp.coding import quantise

RNG = np.random.default_rng(5)


def standard(step: float) -> float:
    return quantise.step_from_qp(quantise.nearest_qp(step, STEP_DENSITY), STEP_DENSITY)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("share", [0.8, 0.999, 1.0])
def test_the_step_spans_the_share(bits: int, share: float) -> None:
    values = RNG.normal(size=10_000)
    quantile = np.sort(np.abs(values))[round(share * values.size) - 1]
    grid = grid_for(values, bits, share)
    assert grid.step == standard(np.float32(quantile / (2 ** (bits - 1) - 1)))
    assert grid.step == pytest.approx(quantile / (2 ** (bits - 1) - 1), rel=1 / 256)
    assert len(grid.values) == 2**bits
    assert grid.values[-grid.low] == 0


def test_the_odd_level_goes_where_most_figures_are_larger() -> None:
    upward = np.array([3.0, 2.0, 2.0, -2.5, -0.1])  # larger, more in sum and number
    assert grid_for(upward, 3)[1:] == (-3, 4)
    assert grid_for(-upward, 3)[1:] == (-4, 3)
    even = np.array([1.0, -1.0])
    assert grid_for(even, 3)[1:] == (-4, 3)
    assert grid_for(np.abs(upward), 3)[1:] == (0, 7)
    assert grid_for(-np.abs(upward), 3)[1:] == (-7, 0)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20])
def test_figures_are_taken_in_double(scale: float) -> None:
    values = (RNG.normal(0.1, size=20_000) * scale).astype(np.float32)
    assert grid_for(values, 4, 0.999)[1:] == (-7, 8)
    assert grid_for(RNG.normal(0.1, size=200_000).astype(np.float16), 4)[1:] == (-7, 8)


def test_a_tensor_almost_without_values_has_a_grid_of_its_largest() -> None:
    values = np.zeros(10_000)
    values[7] = -0.7
    assert grid_for(values, 4, 0.999) == Grid(standard(np.float32(0.7 / 15)), -15, 0)
    assert grid_for(np.zeros(4), 4).step == 0
    assert grid_for(np.full(4, 1e-42, np.float32), 4).step == 0


@settings(deadline=None)
@given(
    arrays.arrays(np.int32, st.integers(1, 50), elements=st.integers(-16, 16)),
    st.integers(-700, 700),
)
def test_levels_times_their_step_tell_the_step(levels: np.ndarray, qp: int) -> None:
    step = quantise.step_from_qp(qp, STEP_DENSITY)
    values = quantise.dequantise(levels, step)
    found = step_of(values, 4)
    if not levels.any():
        assert found == 0
        return
    divisor = np.gcd.reduce(np.abs(levels))
    assert found == step * divisor
    assert np.array_equal(np.rint(values / found), levels // divisor)


def test_what_lies_on_no_grid_has_no_step() -> None:
    values = quantise.dequantise(RNG.integers(-7, 8, 20_000).astype(np.int32), 0.125)
    assert step_of(values, 4) == 0.125
    assert step_of(values, 2) == 0  # more levels than two bits made wider
    values[-1] += np.float32(1e-3)  # beyond the part that is looked at first
    assert step_of(values, 4) == 0
    values[-1] = 0.0625
    assert step_of(values, 4) == 0.0625
    assert step_of(RNG.normal(size=100).astype(np.float32), 4) == 0
    assert step_of(np.array([np.pi, 1.0, 1e-3]), 8) == 0
