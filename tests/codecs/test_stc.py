from __future__ import annotations

import numpy as np
import pytest

from fedcomp.codecs.stc import Stc
from fedcomp.tensors import Array
from tests.common import context_for

WEIGHTS = np.random.default_rng(2).normal(size=(30, 40)).astype(np.float32)


def decoded(codec: Stc, values: Array) -> Array:
    context = context_for({"w": values})
    return codec.decode(codec.encode({"w": values}, context), context)["w"]


@pytest.mark.parametrize("density", [0.01, 0.2, 1.0])
def test_the_largest_weights_get_their_mean_magnitude(density: float) -> None:
    order = np.argsort(-np.abs(WEIGHTS).reshape(-1))[: int(np.ceil(density * WEIGHTS.size))]
    expected = np.zeros(WEIGHTS.size)
    kept = WEIGHTS.reshape(-1)[order].astype(np.float64)
    expected[order] = np.sign(kept) * np.abs(kept).mean()
    assert decoded(Stc(density=density), WEIGHTS).reshape(-1) == pytest.approx(expected, rel=1e-6)


def test_ties_are_all_kept_and_counted() -> None:
    values = np.full((10, 10), 0.5, np.float32)
    values[0, 0] = 2
    out = decoded(Stc(density=0.02), values)
    assert out == pytest.approx(np.full((10, 10), 0.515), rel=1e-6)
    wide = values.astype(np.float64)
    assert np.square(wide - out).sum() <= np.square(wide).sum()


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-60])
def test_values_next_to_nothing_are_zeros(size: float) -> None:
    dtype = np.float64 if size < 1e-50 else np.float32
    assert not decoded(Stc(), np.full((4, 4), size, dtype)).any()
