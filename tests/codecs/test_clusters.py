from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcomp.codecs import clusters
from fedcomp.codecs.clusters import centroids, nearest

RNG = np.random.default_rng(5)
MANY = {
    "normal": RNG.normal(size=20_000),
    "tails": RNG.standard_t(2, size=20_000),
    "sparse": RNG.normal(size=20_000) * (RNG.random(20_000) < 0.3),
    "outlier": np.append(RNG.normal(size=20_000), 1e4),
}


def error(values: NDArray[Any], centres: NDArray[Any]) -> float:
    """Return the squared distance of values from the nearest of centroids."""
    flat = np.asarray(values, np.float64).reshape(-1, 1)
    return float(np.square(flat - centres).min(axis=1).sum())


def least_error(values: NDArray[Any], count: int) -> float:
    """Return the error of the best clusters, by dynamic programming over all cuts."""
    ordered = np.sort(np.asarray(values, np.float64).reshape(-1))
    n = ordered.size
    within = np.zeros((n + 1, n + 1))
    for first in range(n):
        for end in range(first + 1, n + 1):
            part = ordered[first:end]
            within[first, end] = np.square(part - part.mean()).sum()
    costs = np.append(0.0, np.full(n, np.inf))
    for _ in range(count):
        costs = np.array([(costs[: i + 1] + within[: i + 1, i]).min() for i in range(n + 1)])
    return float(costs[-1])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 16])
def test_few_values_are_clustered_as_well_as_they_can_be(count: int) -> None:
    for number in range(25):
        rng = np.random.default_rng(number)
        size = int(rng.integers(17, 61))
        values = [rng.normal(size=size), rng.normal(size=size) ** 3, rng.integers(0, 30, size)]
        given = values[number % 3].astype([np.float32, np.float64][number % 2])
        found = centroids(given, count)
        assert len(found) <= count
        assert error(given, found) == pytest.approx(least_error(given, count), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("count", [2, 16, 100])
@pytest.mark.parametrize("name", MANY)
def test_the_grid_costs_next_to_nothing(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = MANY[name].astype(np.float32)
    found = error(values, centroids(values, count))
    monkeypatch.setattr(clusters, "GRID", values.size)
    assert found <= 1.001 * error(values, centroids(values, count))


@pytest.mark.parametrize(
    ("count", "distortion"), [(2, 0.36338), (4, 0.11748), (8, 0.03454), (16, 0.009497)]
)
def test_normal_numbers_have_the_centroids_of_lloyd_and_max(count: int, distortion: float) -> None:
    """The distortions are those of Max, "Quantizing for minimum distortion", 1960, Table I."""
    values = np.random.default_rng(1).normal(size=300_000).astype(np.float32)
    found = centroids(values, count)
    assert error(values, found) / values.size == pytest.approx(distortion, rel=0.02)
    assert np.allclose(found, -found[::-1], atol=0.05)


@pytest.mark.parametrize("keep_zero", [False, True])
@pytest.mark.parametrize("name", MANY)
def test_centroids_are_the_means_of_what_is_nearest(name: str, keep_zero: bool) -> None:
    values = MANY[name]
    found = centroids(values, 12, keep_zero=keep_zero)
    assert (np.diff(found) > 0).all()
    indices = nearest(values, found)
    assert np.array_equal(indices, np.abs(values[:, None] - found).argmin(axis=1))
    means = np.array([values[indices == i].mean() for i in range(12)])
    zero = np.abs(found).argmin()
    if keep_zero:
        assert found[zero] == 0
        means[zero] = 0
    assert np.allclose(found, means, rtol=1e-9, atol=1e-12)


def test_a_centroid_at_zero_costs_little_among_many() -> None:
    values = MANY["normal"]
    plain, held = (error(values, centroids(values, 16, keep_zero=keep)) for keep in (False, True))
    assert plain < held < 1.03 * plain


def test_no_more_different_values_than_centroids_are_the_centroids() -> None:
    values = np.array([3, -1, 3, 0.1, -1, 7], np.float32)
    for count in (4, 5):
        for keep_zero in (False, True):
            found = centroids(values, count, keep_zero=keep_zero)
            assert found.tolist() == np.unique(values).tolist()
    assert centroids(np.array([[0.25]]), 16).tolist() == [0.25]


def test_values_far_from_zero_lose_no_digits() -> None:
    values = np.repeat(np.array([1e6, 1e6 + 1, 1e6 + 10, 1e6 + 12]), 1000)
    assert centroids(values, 3).tolist() == [1e6 + 0.5, 1e6 + 10, 1e6 + 12]


def test_means_lie_among_their_values_whatever_is_beside_them() -> None:
    values = np.append(np.linspace(1, 2, 5000), [-1e25, 3.0])
    found = centroids(values, 3)
    assert found[0] == -1e25
    assert 1 <= found[1] <= found[2] <= 3


def test_a_gap_wider_than_all_else_leaves_room_for_all_centroids() -> None:
    values = np.concatenate(([-1e25], np.zeros(50_000), np.linspace(1, 2, 5000)))
    found = centroids(values, 256)
    assert (np.diff(found) > 0).all()
    assert np.array_equal(np.unique(nearest(values, found)), np.arange(256))


def test_half_floats_are_clustered_as_floats() -> None:
    values = MANY["normal"].astype(np.float16)
    found = centroids(values, 7)
    assert np.array_equal(found, centroids(values.astype(np.float32), 7))
    assert np.array_equal(nearest(values, found), nearest(values.astype(np.float32), found))


def test_ties_go_up() -> None:
    assert nearest(np.array([0.5, 1.5], np.float32), np.array([0.0, 1.0, 2.0])).tolist() == [1, 2]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 16, 17, 30, 255, 256, 257])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nearest_finds_what_looking_at_all_finds(count: int, dtype: type[Any]) -> None:
    centres = np.cumsum(RNG.integers(1, 9, size=count)) - 3.0 * count
    span = np.arange(centres[0] - 5, centres[-1] + 5, 0.5)  # with all ties: exact in any type
    values = np.resize(RNG.permutation(span), (2, 3 * clusters.BLOCK + 7)).astype(dtype).T
    distances = np.abs(values[..., None].astype(np.float64) - centres)
    expected = count - 1 - distances[..., ::-1].argmin(axis=-1)  # the last at a tie
    found = nearest(values, centres)
    assert found.dtype == np.int64
    assert np.array_equal(found, expected)


def test_nearest_takes_any_shape() -> None:
    centres = np.array([-1.0, 0.0, 2.0])
    assert nearest(np.empty((0, 3), np.float32), centres).shape == (0, 3)
    assert nearest(np.array(0.5), centres).tolist() == 1
    assert nearest(np.array([-np.inf, -1e300, 1e300, np.inf]), centres).tolist() == [0, 0, 2, 2]
