from __future__ import annotations

import numpy as np
import pytest

from fedcomp.codecs.step_search import smallest_stream
from fedcomp.coding.nnc_stream import read_model
from fedcomp.errors import CodecError
from fedcomp.tensors import Tensors

RNG = np.random.default_rng(11)
MODEL: Tensors = {
    "w": RNG.laplace(scale=0.05, size=(40, 60)).astype(np.float32),
    "b": RNG.normal(size=40).astype(np.float32),
    "zero": np.zeros((3, 3), np.float32),
}


def quality(model: Tensors) -> float:
    """Peak-like signal-to-noise ratio in decibel, of the weights."""
    error = float(np.square(model["w"] - MODEL["w"]).mean())
    return min(60.0, -10 * np.log10(error + 1e-12))


def test_the_smallest_good_stream_is_found() -> None:
    extras, weights = (4, 8, 16, 32, 64, 128), (0.0, 0.1, 0.3)
    found = smallest_stream(MODEL, quality, 18.0, extras=extras, rate_weights=weights)
    brute = []
    for extra in extras:
        for weight in weights:
            one = smallest_stream(MODEL, quality, 1e9, extras=[extra], rate_weights=[weight])
            brute.append((len(one.stream), one.metric))
    assert len(found.stream) == min(size for size, metric in brute if metric >= 42)
    assert found.tried == tuple(sorted(brute)[: len(found.tried)])
    shapes = {name: value.shape for name, value in MODEL.items()}
    model = read_model(found.stream, shapes=shapes)
    values = {name: tensor.values() for name, tensor in model.tensors.items()}
    assert quality(values) == found.metric >= found.baseline - 18
    assert np.abs(values["b"] - MODEL["b"]).max() < 2e-6
    assert not values["zero"].any()


def test_importance_sets_the_step() -> None:
    importance = {"w": np.full(MODEL["w"].shape, 0.01), "zero": 1.0}
    found = smallest_stream(
        MODEL, quality, 1e9, importance=importance, extras=[0], rate_weights=[0.0]
    )
    span = 2 * (np.abs(MODEL["w"]).max() + 0.005)
    step = span / np.ceil(span / 0.01)
    values = read_model(found.stream).tensors["w"].values()
    assert np.diff(np.unique(values)).min() == pytest.approx(step, rel=0.033)


def test_what_cannot_be_reached_is_said() -> None:
    with pytest.raises(CodecError, match=r"no stream of 1 keeps the metric within 0 of 60; .* S"):
        smallest_stream(MODEL, quality, 0.0, extras=[4], rate_weights=[0.3])
