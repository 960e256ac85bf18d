from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedcomp.codecs.assignment import (
    Bound,
    assign,
    assign_relevant,
    costs,
    information,
    layer_share,
)
from fedcomp.codecs.clusters import nearest
from fedcomp.codecs.grid import Grid, grid_for
from fedcomp.tensors import Array

RNG = np.random.default_rng(11)
NORMAL = RNG.normal(size=20_000).astype(np.float32)
MANY = {
    "normal": NORMAL,
    "laplace": RNG.laplace(size=(40, 250)).astype(np.float32),
    "shifted": RNG.normal(loc=3, scale=0.1, size=5_000),  # none near zero
    "positive": RNG.exponential(size=5_000).astype(np.float32),
    "one": np.array([0.3]),
    "sparse": np.where(RNG.random(5_000) < 0.02, RNG.normal(size=5_000), 0).astype(np.float32),
}


def shares_of(values: Array, grid: Grid) -> NDArray[np.float64]:
    """Return the shares of nearest levels, and the floor of that of 0, from the formula."""
    centres = grid.values
    at = np.abs(values.reshape(-1, 1).astype(np.float64) - centres).argmin(1)
    shares = np.array([(at == i).mean() for i in range(len(centres))])
    zero = -grid.low
    if shares[zero] < 0.5:
        others = shares.sum() - shares[zero]
        shares = shares * 0.5 / others
        shares[zero] = 0.5
    return shares


def brute_force(values: Array, grid: Grid, weight: float, factor: Array | None = None) -> Array:
    """Return the least cost of each weight among all levels, from the formula."""
    shares = shares_of(values, grid)
    out = np.empty((values.size, len(shares)))
    for at, (centre, share) in enumerate(zip(grid.values, shares, strict=True)):
        apart = (values.reshape(-1).astype(np.float64) - centre) ** 2
        out[:, at] = apart - (weight * np.log2(share) if share else -np.inf)
    if factor is not None:
        out[:, -grid.low] *= factor.reshape(-1)
    return out


def paid(table: Array, levels: Array, grid: Grid) -> Array:
    return np.asarray(table[np.arange(levels.size), levels.reshape(-1) - grid.low])


@pytest.mark.parametrize("bound", ["min", "max"])
@pytest.mark.parametrize("gamma", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", MANY)
def test_no_level_is_cheaper(name: str, bits: int, gamma: float, bound: Bound) -> None:
    values = MANY[name]
    grid = grid_for(values, bits, 0.999)
    priced = costs(values, grid, gamma, bound)
    levels = assign(values, priced)
    assert levels.shape == values.shape
    table = brute_force(values, grid, priced.weight)
    assert paid(table, levels, grid) == pytest.approx(table.min(1), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", MANY)
def test_without_a_price_it_is_the_nearest_level(name: str) -> None:
    values = MANY[name].astype(np.float64)
    grid = grid_for(values, 4, 0.999)
    levels = assign(values, costs(values, grid, 0))
    apart = np.abs(values - levels * grid.step)
    centres = grid.values
    assert np.array_equal(apart, np.abs(values - centres[nearest(values, centres)]))


def entropy(levels: Array) -> float:
    _, counts = np.unique(levels, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


@pytest.mark.parametrize("bound", ["min", "max"])
def test_entropy_falls_and_zeros_rise_with_gamma(bound: Bound) -> None:
    grid = grid_for(NORMAL, 4, 0.999)
    found = [assign(NORMAL, costs(NORMAL, grid, g, bound)) for g in np.linspace(0, 1, 12)]
    entropies = [entropy(levels) for levels in found]
    zeros = [float((levels == 0).mean()) for levels in found]
    assert entropies == sorted(entropies, reverse=True)
    assert zeros == sorted(zeros)
    assert zeros[-1] > 0.95 > 0.3 > zeros[0]


def test_price_of_a_bit_on_both_sides() -> None:
    values = np.array([*[0.0] * 12, 1.0, 1.0, -0.8, 2.2])
    grid = Grid(1.0, -2, 2)
    bits = {0: -np.log2(12 / 16), 1: -np.log2(2 / 16), -1: 4.0, 2: 4.0}
    above = (2.2**2 - 0.2**2) / (bits[2] - bits[0])
    assert costs(values, grid, 0.5, "min").weight == pytest.approx(0.5 * 1 / (bits[-1] - bits[0]))
    assert costs(values, grid, 0.5, "max").weight == pytest.approx(0.5 * above)
    both = costs(values, grid, 1, "min")
    assert assign(values, both).tolist()[-2:] != [0, 0]
    nothing = np.full(5, 0.2)
    assert costs(nothing, grid, 1).weight == 0
    assert not assign(nothing, costs(nothing, grid, 1)).any()


def test_zero_counts_as_half_at_least() -> None:
    assert information(np.array([0, 5, 3]), 0).tolist() == [1, -np.log2(5 / 16), -np.log2(3 / 16)]
    assert information(np.array([6, 2]), 0) == pytest.approx(-np.log2([0.75, 0.25]))
    assert information(np.array([4, 0, 0]), 0).tolist() == [0, np.inf, np.inf]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.02, 0.1, 0.5]),
    st.sampled_from([0.02, 0.2, 0.6]),
    st.sampled_from([0.2, 1.0, 4.0]),
)
def test_relevance_lowers_the_zeros_within_the_window(
    seed: int, intensity: float, gamma: float, skew: float
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=3_000).astype(np.float32)
    relevance = rng.gamma(skew, size=3_000)
    grid = grid_for(values, 4, 0.999)
    priced = costs(values, grid, gamma)
    plain = assign(values, priced)
    levels = assign_relevant(values, priced, relevance, intensity)
    zeros, found = (float((part == 0).mean()) for part in (plain, levels))
    if zeros <= intensity:
        assert np.array_equal(levels, plain)
        return
    shares = np.abs(relevance) / np.abs(relevance).max()
    start = np.log(0.5) / np.log(shares.mean() + 1e-12)
    table = brute_force(values, grid, priced.weight, 2 * (shares + 1e-12) ** start)
    at_start = float((table.argmin(1) == -grid.low).mean())
    if zeros - intensity + 1e-3 < at_start < zeros - 1e-3:  # the first β is in the window
        assert paid(table, levels, grid) == pytest.approx(table.min(1), rel=1e-3, abs=1e-9)
    assert zeros - intensity - 1e-3 <= found <= zeros


@pytest.mark.parametrize("least", [0.5, 0.9, 1 - 1e-6])
def test_relevance_that_hardly_differs_stays_within_the_window(least: float) -> None:
    relevance = RNG.uniform(least, 1, size=NORMAL.shape)
    priced = costs(NORMAL, grid_for(NORMAL, 4, 0.999), 0.2)
    zeros = float((assign(NORMAL, priced) == 0).mean())
    found = float((assign_relevant(NORMAL, priced, relevance, 0.1) == 0).mean())
    assert zeros - 0.1 - 1e-3 <= found <= zeros


def test_the_mean_relevance_has_the_factor_one() -> None:
    relevance = np.array([0.1, 0.2, 0.3, 1.0])  # the mean of R is 0.4
    beta = np.log(0.5) / np.log(0.4)
    assert 2 * 0.4**beta == pytest.approx(1)
    values = np.array([0.55, 0.55, 0.55, 0.55, *[0.0] * 400])
    grid = Grid(1.0, -2, 1)
    priced = costs(values, grid, 0)._replace(weight=0.02)
    assert not assign(values, priced).any()
    own, other = 0.55**2 + priced.prices[2], 0.45**2 + priced.prices[3]
    factors = 2 * np.append(relevance, [0.4] * 400) ** beta
    wanted = (factors[:4] * own > other).astype(int)
    assert 0 < wanted.sum() < 4
    levels = assign_relevant(values, priced, np.append(relevance, [0.4] * 400), 0.5)
    assert levels[:4].tolist() == wanted.tolist()
    assert not levels[4:].any()


def test_a_single_large_weight_does_not_raise_the_price() -> None:
    grid = grid_for(NORMAL, 4, 0.999)
    far = np.append(NORMAL, np.float32(1e6))
    plain, with_it = (costs(values, grid, 0.1).weight for values in (NORMAL, far))
    assert with_it == pytest.approx(plain, rel=0.01)
    assert costs(far, grid, 0.1, "max").weight > 1000 * costs(NORMAL, grid, 0.1, "max").weight
    assert assign(far, costs(far, grid, 0.1))[-1] == grid.high


@pytest.mark.parametrize("relevance", [0.0, 1.0, np.nan, np.inf])
def test_equal_or_useless_relevance_changes_nothing(relevance: float) -> None:
    priced = costs(NORMAL, grid_for(NORMAL, 4), 0.3)
    given = np.full(NORMAL.shape, relevance)
    assert np.array_equal(assign_relevant(NORMAL, priced, given, 0.1), assign(NORMAL, priced))


def test_of_equal_weights_the_relevant_ones_stay() -> None:
    values = np.full(1_000, 0.55)
    values[:500] = 0
    relevance = np.linspace(0, 1, 1_000) ** 8
    priced = costs(values, Grid(1.0, -2, 1), 0)
    priced = priced._replace(bits=np.array([np.inf, np.inf, 1.0, 3.0]), weight=0.1)
    levels = assign_relevant(values, priced, relevance, 0.2)[500:]
    assert 0 < levels.sum() <= 200
    assert np.array_equal(levels, np.sort(levels))


def test_small_layers_pay_less() -> None:
    assert layer_share(10, 10) == 1
    assert layer_share(3, 10) == pytest.approx(0.35 / 1.05)
