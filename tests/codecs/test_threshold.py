from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedcomp.building import build
from fedcomp.codecs.threshold import Threshold
from fedcomp.codecs.topk import TopK
from fedcomp.errors import CodecError, ConfigError
from fedcomp.tensors import Array
from tests.common import context_for

RNG = np.random.default_rng(9)


def decoded(codec: Threshold, values: Array) -> Array:
    context = context_for({"w": values})
    return codec.decode(codec.encode({"w": values}, context), context)["w"]


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=3),
        elements=st.integers(-64, 64).map(lambda number: number / 16),
    ),
    st.sampled_from([0.0625, 0.3, 1.0, 2.5, 4.0, 5.0]),
)
def test_what_is_below_the_threshold_waits_and_nothing_else(values: Array, tau: float) -> None:
    out = decoded(Threshold(tau=tau, relative=None, bits=24), values)
    small = np.abs(values) < tau
    assert not out[small].any()
    assert np.abs(out - values)[~small].max(initial=0) <= 4 / 2**23
    error = np.square(values.astype(np.float64) - out).sum()
    assert error == pytest.approx(np.square(values[small], dtype=np.float64).sum(), abs=1e-8)


@pytest.mark.parametrize("relative", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("scale", [1e-6, 30.0])
def test_a_relative_threshold_is_in_units_of_the_root_mean_square(
    relative: float, scale: float
) -> None:
    values = RNG.laplace(scale=scale, size=(50, 60)).astype(np.float32)
    out = decoded(Threshold(relative=relative, bits=24), values)
    rms = np.linalg.norm(values.astype(np.float64)) / np.sqrt(values.size)
    assert np.array_equal(out != 0, np.abs(values) >= relative * rms)


def test_a_share_of_normal_weights_is_kept_by_default() -> None:
    values = RNG.normal(size=(1000, 1000)).astype(np.float32)
    assert np.count_nonzero(decoded(Threshold(), values)) == pytest.approx(12_419, rel=0.03)


def test_each_tensor_has_its_own_relative_threshold() -> None:
    values = RNG.normal(size=(40, 50)).astype(np.float32)
    tensors = {"w": values, "v": values * 8, "bias": values[0]}
    context = context_for(tensors)
    for codec, same in ((Threshold(), True), (Threshold(tau=2.0, relative=None), False)):
        out = codec.decode(codec.encode(tensors, context), context)
        assert np.array_equal(out["v"] != 0, out["w"] != 0) == same
        assert np.count_nonzero(out["bias"]) == 50


def test_what_is_kept_is_written_as_by_topk() -> None:
    values = RNG.normal(size=(30, 40)).astype(np.float32)
    context = context_for({"w": values})
    tau = float(np.sort(np.abs(values), axis=None)[-60])
    same = Threshold(tau=tau, relative=None, bits=5).encode({"w": values}, context)
    assert same == TopK(density=0.05, bits=5).encode({"w": values}, context)


def test_target_is_sent_and_residual_together() -> None:
    """With feedback nothing is lost: what was left out is sent once it has grown to the threshold.

    A weight that moves by 1/8 a round, and a threshold of 1, reaches it every eighth round.
    """
    values = np.full((2, 3), 0.125, np.float32)
    residual, sent, codec = np.zeros_like(values), [], Threshold(tau=1.0, relative=None)
    for _ in range(24):
        target = values + residual
        out = decoded(codec, target)
        residual = target - out
        sent.append(out[0, 0])
    assert np.flatnonzero(sent).tolist() == [7, 15, 23]
    assert np.sum(sent) + residual[0, 0] == pytest.approx(3.0)


def test_edges() -> None:
    nothing = Threshold(tau=10.0, relative=None)
    assert not decoded(nothing, np.ones((2, 2), np.float32)).any()
    assert not decoded(Threshold(), np.full((2, 2), 1e-40, np.float32)).any()
    tiny = np.array([[1e-300, -1e-40]])
    assert not decoded(Threshold(), tiny).any()
    ones = np.ones((2, 2), np.float32)
    assert decoded(Threshold(tau=1.0, relative=None), ones).tolist() == [[1, 1], [1, 1]]
    with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
        decoded(Threshold(), np.full((2, 2), 1e200))


def test_feedback_may_send_the_rest() -> None:
    assert Threshold().contracts


@pytest.mark.parametrize(
    "values", [{"tau": 0.0, "relative": None}, {"relative": 0.0}, {"bits": 1}, {"coder": "morse"}]
)
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(Threshold, values, "uplink")


@pytest.mark.parametrize("values", [{"tau": 0.5}, {"relative": None}])
def test_one_threshold_is_given(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="give either tau or relative"):
        build(Threshold, values, "uplink")
