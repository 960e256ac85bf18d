from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcomp.building import build
from fedcomp.codecs.fedzip import FedZip
from fedcomp.codecs.kmeans import KMeans
from fedcomp.codecs.numbered import Numbered
from fedcomp.errors import ConfigError
from fedcomp.tensors import Array
from tests.common import context_for

RNG = np.random.default_rng(4)
LAPLACE = RNG.laplace(size=(40, 250)).astype(np.float32)
MANY = {
    "laplace": LAPLACE,
    "normal": RNG.normal(size=(40, 250)).astype(np.float32),
    "shifted": RNG.normal(loc=0.5, size=(40, 250)).astype(np.float32),
}


def decoded(codec: FedZip, values: Array) -> Array:
    context = context_for({"w": values})
    return codec.decode(codec.encode({"w": values}, context), context)["w"]


def sparse(values: Array, density: float) -> NDArray[np.float64]:
    """Return the largest weights, by sorting all, and zeros."""
    flat = values.reshape(-1).astype(np.float64)
    order = np.argsort(-np.abs(flat), kind="stable")
    flat[order[int(np.ceil(density * flat.size)) :]] = 0
    return flat.reshape(values.shape)


def published(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cluster as the first author's code does: from even centroids; to the end, not four times."""
    centres = np.linspace(values.min(), values.max(), 3)
    while True:
        indices = np.abs(values[..., None] - centres).argmin(axis=-1)
        means = np.array([values[indices == i].mean() for i in range(3)])
        if np.array_equal(means, centres):
            return np.asarray(means[indices])
        centres = means


@pytest.mark.parametrize("density", [0.01, 0.2])
@pytest.mark.parametrize("name", MANY)
def test_kept_weights_become_the_mean_of_their_sign_as_published(name: str, density: float) -> None:
    kept = sparse(MANY[name], density)
    out = decoded(FedZip(density=density), MANY[name])
    assert np.array_equal(np.sign(out), np.sign(kept))
    for sign in {-1, 1} & {*np.sign(kept).reshape(-1)}:
        assert out[kept * sign > 0] == pytest.approx(kept[kept * sign > 0].mean(), rel=1e-6)
    if name != "shifted":  # of one sign only there are two centroids for what is kept
        assert out == pytest.approx(published(kept), rel=1e-6)


@pytest.mark.parametrize("clusters", [3, 4, 9])
@pytest.mark.parametrize("name", MANY)
def test_centroids_are_means_of_the_nearest_or_zero(name: str, clusters: int) -> None:
    kept = sparse(MANY[name], 0.6)
    out = decoded(FedZip(density=0.6, clusters=clusters), MANY[name])
    book = np.unique(out)
    assert len(book) == clusters
    assert np.count_nonzero(book == 0) == 1
    assert np.array_equal(out, book[np.abs(kept[..., None] - book).argmin(axis=-1)])
    for centre in book[book != 0]:
        assert kept[out == centre].mean() == pytest.approx(centre, rel=1e-5)


def test_kept_weights_nearer_to_zero_than_to_a_cluster_are_zero() -> None:
    values = np.zeros((10, 10), np.float32)
    values[0] = [9, 10, 11, -9, -10, -11, 1, -1, 2, -2]
    out = decoded(FedZip(density=0.1), values)
    assert out[0].tolist() == [10, 10, 10, -10, -10, -10, 0, 0, 0, 0]
    assert not out[1:].any()


def test_no_weight_moves_farther_than_to_zero() -> None:
    for number in range(80):
        rng = np.random.default_rng(number)
        size = (3, int(rng.integers(1, 60)))
        draws: list[NDArray[Any]] = [
            rng.normal(size=size),
            rng.uniform(1, 3, size=size),
            rng.standard_cauchy(size=size),
            rng.integers(-2, 3, size=size).astype(float),
        ]
        values = draws[number % 4].astype([np.float32, np.float64][number // 4 % 2])
        codec = FedZip(density=float(rng.uniform(0.01, 1)), clusters=3 + number % 5)
        out = decoded(codec, values)
        assert (np.abs(out - values) <= np.abs(values) * (1 + 1e-6)).all()
        assert not out[values == 0].any()
        assert np.count_nonzero(out) <= max(1, np.ceil(codec.density * values.size))
    assert codec.contracts


def test_all_weights_in_many_clusters_are_those_of_kmeans() -> None:
    ours = decoded(FedZip(density=1.0, clusters=16), LAPLACE)
    context = context_for({"w": LAPLACE})
    peer = KMeans(keep_zero=True)
    assert np.array_equal(ours, peer.decode(peer.encode({"w": LAPLACE}, context), context)["w"])


def test_ties_are_kept_in_their_order() -> None:
    values = np.full((4, 5), 0.5, np.float32)
    out = decoded(FedZip(density=0.15), values)
    assert out.reshape(-1).tolist() == [0.5] * 3 + [0.0] * 17


@pytest.mark.parametrize(
    ("coder", "least", "most"),
    [("fixed", 2.0, 2.0), ("huffman", 1.2, 1.2), ("cabac", 0.91, 0.95), ("golomb", 0.92, 0.95)],
)
def test_sizes_are_those_of_the_codes(coder: Any, least: float, most: float) -> None:
    """A word of 1 bit for a zero and of 2 for each sign; the entropy of 0.8, 0.1, 0.1 is 0.922."""
    data = FedZip(coder=coder).encode({"w": LAPLACE}, context_for({"w": LAPLACE}))
    assert len(data) - least * LAPLACE.size / 8 >= 12
    assert len(data) - most * LAPLACE.size / 8 <= 64


def test_what_is_sent_is_three_floats_and_indices_from_the_zero() -> None:
    values = np.array([[0.1, -4.0, 0.2, 2.0]], np.float32)
    symbol = FedZip(density=0.5).quantise({"w": values}, context_for({"w": values}))["w"]
    assert isinstance(symbol, Numbered)
    assert symbol.numbers.tolist() == [-4, 0, 2]
    assert symbol.levels.tolist() == [[0, -1, 0, 1]]


@pytest.mark.parametrize("values", [{"density": 0}, {"density": 1.1}, {"clusters": 2}])
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(FedZip, values, "uplink")
