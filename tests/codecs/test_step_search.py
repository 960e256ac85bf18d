from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedcomp.codecs.step_search import smallest_stream
from fedcomp.coding import quantise
from fedcomp.coding.nnc_stream import read_model
from fedcomp.coding.quantise_rate import weighted_rate_distortion
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


def anything(_: Tensors) -> float:
    return 0.0


def test_tensors_without_importance_take_their_range_over_s_and_six_steps() -> None:
    found = smallest_stream(MODEL, anything, 0.0, extras=[0, 16], rate_weights=[0.2])
    assert found.extra == 16
    assert len(found.tried) == 1
    tensor = read_model(found.stream).tensors["w"]
    qp = quantise.nearest_qp(2 * float(np.abs(MODEL["w"]).max()) / 16, 4)
    step = quantise.step_from_qp(qp, 4)
    expected = weighted_rate_distortion(MODEL["w"], step, 6 * step, 0.2)
    assert tensor.qp == qp
    np.testing.assert_array_equal(tensor.levels, expected)
    assert (expected != weighted_rate_distortion(MODEL["w"], step, 60 * step, 0.2)).any()


def test_only_tensors_that_are_searched_need_s() -> None:
    found = smallest_stream(
        MODEL, anything, 0.0, importance={"w": 0.01}, extras=[0], rate_weights=[0.0]
    )
    assert found.extra == 0
    with pytest.raises(CodecError, match="tensor 'w' has no importance and needs S > 0"):
        smallest_stream(MODEL, anything, 0.0, importance={"b": 1.0}, extras=[0])


def test_large_biases_take_a_larger_fine_step() -> None:
    model: Tensors = {"b": np.array([1e6, -3.0, 0.5], np.float32)}
    found = smallest_stream(model, anything, 0.0, extras=[1], rate_weights=[0.0])
    tensor = read_model(found.stream).tensors["b"]
    assert np.abs(tensor.values() - model["b"]).max() < 1e6 / 2**30
    assert tensor.levels.max() > 2**29


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_, ">i2"])
def test_integers_come_back_exactly(dtype: Any) -> None:
    top = 1 if dtype == np.bool_ else min(np.iinfo(dtype).max, 2**31 - 1)
    integers = np.array([[1, 0, top], [top - 1, 1, 0]]).astype(dtype)
    model: Tensors = {"w": MODEL["w"], "count": np.array(1, np.int64), "n": integers}
    seen: list[Tensors] = []

    def note(tensors: Tensors) -> float:
        seen.append(tensors)
        return 0.0

    found = smallest_stream(model, note, 0.0, extras=[4], rate_weights=[0.3])
    for name in ("count", "n"):
        np.testing.assert_array_equal(seen[1][name], model[name], strict=True)
        tensor = read_model(found.stream).tensors[name]
        np.testing.assert_array_equal(tensor.levels, model[name])
        assert tensor.qp is not None
        assert quantise.step_from_qp(tensor.qp, tensor.density) == 1.0


def test_integers_beyond_int32_are_refused() -> None:
    model: Tensors = {"w": MODEL["w"], "n": np.array([2**31])}
    with pytest.raises(CodecError, match=r"tensor 'n': integers from .* do not fit into int32"):
        smallest_stream(model, anything, 0.0)


def test_points_that_no_stream_can_say_are_left_out() -> None:
    found = smallest_stream(
        {"w": np.array([[1.0, -0.5]])}, anything, 0.0, extras=[2**33, 64], rate_weights=[0.0]
    )
    assert found.extra == 64
    with pytest.raises(CodecError, match=r"any of 2 pairs .* tensor 'w': .* a step of 1\.16e-10"):
        smallest_stream({"w": np.ones((1, 2))}, anything, 0.0, extras=[2**34], rate_weights=[0, 1])


def test_points_whose_levels_leave_int32_are_left_out() -> None:
    model: Tensors = {"w": np.array([[100.0, -0.5]])}
    grid: dict[str, Any] = {"importance": {"w": 1.0}, "rate_weights": [0.0]}
    assert smallest_stream(model, anything, 0.0, extras=[2**36, 8], **grid).extra == 8
    with pytest.raises(CodecError, match=r"tensor 'w': value 100 at .* does not fit into int32"):
        smallest_stream(model, anything, 0.0, extras=[2**36], **grid)


@pytest.mark.parametrize("scale", [1e-11, 1e-30, 1e13, 1e30])
def test_weights_out_of_the_range_of_steps_are_refused(scale: float) -> None:
    model: Tensors = {**MODEL, "far": scale * np.ones((2, 3), np.float32)}
    with pytest.raises(CodecError, match=r"tensor 'far': it needs a step of .* 2\^-32 to 2\^32"):
        smallest_stream(model, anything, 0.0, extras=[4, 16], rate_weights=[0.0])


def test_biases_out_of_the_range_of_steps_are_refused() -> None:
    with pytest.raises(CodecError, match="tensor 'b': it needs a step of 9"):
        smallest_stream({"b": np.array([1e20])}, anything, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"importance": {"W": 0.1}}, "importance names 'W', which is not among the tensors"),
        ({"importance": {"w": np.ones(3)}}, r"tensor 'w': importance has shape \(3,\)"),
        ({"importance": {"w": -1.0}}, "tensor 'w': every importance must be positive"),
        ({"extras": [0]}, "tensor 'w' has no importance and needs S > 0"),
        ({"extras": []}, "an empty grid is no"),
        ({"rate_weights": []}, "an empty grid is no"),
        ({"extras": [8, -1]}, r"\(-1, 0.0\) of the grid is no"),
        ({"rate_weights": [0.1, np.nan]}, r"\(0, nan\) of the grid is no"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CodecError, match=message):
        smallest_stream(MODEL, anything, 0.0, **arguments)


@pytest.mark.parametrize("values", [np.array([[np.nan]]), np.array([np.inf]), np.array([1j])])
def test_what_is_no_finite_number_is_refused(values: np.ndarray[Any, Any]) -> None:
    with pytest.raises(CodecError, match="tensor 'x'"):
        smallest_stream({"x": values}, anything, 0.0)


def test_evaluation_cannot_change_the_model() -> None:
    model: Tensors = {name: values.copy() for name, values in MODEL.items()}

    def spoil(tensors: Tensors) -> float:
        for values in tensors.values():
            values[...] = 0
        return 0.0

    smallest_stream(model, spoil, 0.0, extras=[4], rate_weights=[0.0])
    for name, values in MODEL.items():
        np.testing.assert_array_equal(model[name], values)
