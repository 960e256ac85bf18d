from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedcomp.codecs.topk import TopK, largest
from tests.common import context_for

RNG = np.random.default_rng(2)


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(1, 60), elements=st.integers(-4, 4).map(float)),
    st.floats(0.001, 1),
)
def test_exactly_k_of_the_largest_are_kept(
    values: np.ndarray[tuple[int], np.dtype[np.float32]], density: float
) -> None:
    kept = largest(values, density)
    count = max(1, int(np.ceil(density * values.size)))
    chosen = np.flatnonzero(kept)
    assert np.array_equal(kept[chosen], values[chosen])
    assert len(chosen) == min(count, np.count_nonzero(values))
    brute = np.sort(np.abs(values))[::-1][:count]
    assert np.array_equal(np.sort(np.abs(kept[chosen]))[::-1], brute[brute > 0])


@pytest.mark.parametrize("scope", ["tensor", "model"])
def test_scope(scope: str) -> None:
    tensors = {
        "small": RNG.normal(scale=0.01, size=(20, 50)).astype(np.float32),
        "big": RNG.normal(size=(20, 50)).astype(np.float32),
        "bias": RNG.normal(size=20).astype(np.float32),
    }
    codec = TopK(density=0.05, scope=scope, bits=16)  # type: ignore[arg-type]
    context = context_for(tensors)
    out = codec.decode(codec.encode(tensors, context), context)
    counts = [np.count_nonzero(out[name]) for name in ("small", "big", "bias")]
    assert counts == ([50, 50, 20] if scope == "tensor" else [0, 100, 20])
    kept = out["big"] != 0
    assert np.abs(tensors["big"][kept]).min() >= np.abs(tensors["big"][~kept]).max()
    assert np.abs(out["big"] - tensors["big"])[kept].max() < 1e-4


def test_one_percent_costs_about_its_entropy() -> None:
    tensors = {"w": RNG.normal(size=(512, 1000)).astype(np.float32)}
    context = context_for(tensors)
    codec = TopK(density=0.01, bits=4)
    size = 8 * len(codec.encode(tensors, context)) / (0.01 * 512_000)
    levels = codec.quantise(tensors, context)["w"].levels
    counts = np.unique(levels, return_counts=True)[1] / levels.size
    entropy = -(counts * np.log2(counts)).sum() / 0.01
    assert entropy < size < 1.05 * entropy
