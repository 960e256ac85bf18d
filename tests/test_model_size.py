"""What a model takes in a file."""

from __future__ import annotations

import zlib
from itertools import pairwise

import numpy as np
import pytest

from fedcomp.codecs.clusters import centroids, nearest
from fedcomp.model_size import deflated_bytes, float_bytes, packed_bytes
from fedcomp.tensors import Tensors
from tests.common import manifest_for

RNG = np.random.default_rng(3)


def model(count: int | None = None, zeros: float = 0.0) -> Tensors:
    weights = RNG.normal(size=(200, 150)).astype(np.float32)
    if count:
        found = centroids(weights, count).astype(np.float32)
        weights = found[nearest(weights, found)]
    if zeros:
        weights[RNG.random(weights.shape) < zeros] = 0
    return {"w": weights, "b": RNG.normal(size=200).astype(np.float32), "n": np.array(7)}


def test_a_model_of_clusters_takes_the_entropy_of_indices() -> None:
    tensors = model(8)
    _, counts = np.unique(tensors["w"], return_counts=True)
    entropy = -(counts * np.log2(counts / counts.sum())).sum() / 8
    size = packed_bytes(tensors, manifest_for(tensors))
    assert entropy + 4 * 200 <= size <= 1.02 * entropy + 4 * 200 + 150


def test_a_sparse_model_takes_its_values_and_a_mask() -> None:
    tensors = model(zeros=0.9)
    share = np.mean(tensors["w"] == 0)
    mask = -(share * np.log2(share) + (1 - share) * np.log2(1 - share)) * tensors["w"].size / 8
    values = 4 * np.count_nonzero(tensors["w"])
    size = packed_bytes(tensors, manifest_for(tensors))
    assert values + mask <= size <= values + 1.05 * mask + 4 * 200 + 150


def test_fewer_values_take_fewer_bytes() -> None:
    sizes = [packed_bytes(m, manifest_for(m)) for m in (model(), model(64), model(16), model(4))]
    assert all(later < earlier for earlier, later in pairwise(sizes))
    assert sizes[0] < float_bytes(model()) == 4 * (30_000 + 200 + 1)


def test_what_is_not_finite_is_not_packed() -> None:
    tensors = {"w": np.array([[np.nan, 1.0]], np.float32)}
    assert packed_bytes(tensors, manifest_for(tensors)) == float_bytes(tensors) == 8


@pytest.mark.parametrize("count", [None, 8])
def test_deflate_is_zlib_of_all_values_as_float32(count: int | None) -> None:
    tensors = model(count)
    raw = b"".join(value.astype("<f4").tobytes() for value in tensors.values())
    assert deflated_bytes(tensors) == pytest.approx(len(zlib.compress(raw)), abs=16)
