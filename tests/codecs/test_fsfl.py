from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.codecs.fsfl import Fsfl
from fedcomp.codecs.levels import Levels
from fedcomp.codecs.sparsify import below_filter_gain, below_threshold, delta_for
from fedcomp.codecs.stc import Stc
from fedcomp.coding import quantise
from fedcomp.tensors import Tensors
from tests.common import context_for

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(0, 0.01, size=(64, 32, 3, 3)).astype(np.float32)

CENTRED = np.concatenate([[-value, value * 1.0001] for value in RNG.normal(size=500)])


def kept(values: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(np.count_nonzero(values) / values.size)


@pytest.mark.parametrize(("delta", "share"), [(0.0, 1.0), (1.0, 0.3173), (2.0, 0.0455)])
def test_the_threshold_keeps_the_tail_of_a_normal_distribution(delta: float, share: float) -> None:
    assert kept(below_threshold(NORMAL, delta, 0.0)) == pytest.approx(share, abs=0.005)
    with_mean = NORMAL + np.float32(0.02)
    theta = abs(with_mean.mean()) + delta * with_mean.std()
    found = below_threshold(with_mean, delta, 0.0)
    assert np.array_equal(found != 0, np.abs(with_mean) >= theta.astype(np.float64))


def test_half_a_step_is_the_least_threshold() -> None:
    found = below_threshold(NORMAL, 0.0, 0.02)
    assert np.array_equal(found != 0, np.abs(NORMAL) >= 0.01)


@given(st.floats(0, 0.99), st.integers(0, 2**32 - 1))
def test_a_target_is_met_as_closely_as_weights_allow(target: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    update = {"a": rng.normal(size=300), "b": rng.laplace(2, size=(40, 10))}
    delta = delta_for(update, target, 0.0)
    zeros = sum((below_threshold(v, delta, 0.0) == 0).sum() for v in update.values())
    floor = sum((below_threshold(v, 0.0, 0.0) == 0).sum() for v in update.values())
    assert zeros == max(int(np.ceil(target * 700)), floor)


def test_weak_filters_go_and_the_mean_decides() -> None:
    values = RNG.normal(size=(10, 4)) * np.arange(1, 11)[:, None]
    sizes = np.abs(values).mean(axis=1)
    found = below_filter_gain(values, 0.9)
    assert np.array_equal(found.any(axis=1), sizes >= 0.9 * sizes.mean())
    assert np.array_equal(below_filter_gain(values, 0.0), values)


@pytest.mark.parametrize("rate", [0.6, 0.8, 0.96])
@pytest.mark.parametrize("sparsity", ["target", "fixed"])
def test_the_rate_is_what_the_codec_leaves_out(sparsity: str, rate: float) -> None:
    codec = Fsfl(sparsity=sparsity, rate=rate, gain=0.0, step=1e-5)
    context = context_for({"w": NORMAL})
    symbols = codec.quantise({"w": NORMAL}, context)
    assert 1 - kept(symbols["w"].levels) == pytest.approx(rate, abs=1e-4)


def test_thresholds_come_first_then_filters_then_levels() -> None:
    values = (NORMAL * np.arange(1, 65, dtype=np.float32)[:, None, None, None] / 32).copy()
    context = context_for({"w": values})
    codec = Fsfl(sparsity="threshold", delta=1.5, gain=0.9, step=2**-9)
    expected = below_filter_gain(below_threshold(values, 1.5, 2**-9), 0.9)
    found = codec.quantise({"w": values}, context)["w"].levels
    assert np.array_equal(found, quantise.uniform(expected, 2**-9))
    other = below_threshold(below_filter_gain(values, 0.9), 1.5, 2**-9)
    assert not np.array_equal(other, expected)


@pytest.mark.parametrize("sparsity", ["threshold", "target", "fixed"])
def test_importance_leaves_sparsity_as_it_is(sparsity: str) -> None:
    context = context_for({"w": NORMAL})
    codec = Fsfl(sparsity=sparsity, quantiser="weighted", rate_weight=0.0, step=1e-5)
    plain = codec.quantise({"w": NORMAL}, context)["w"].levels
    ones = {"w": np.ones_like(NORMAL)}
    weighted = codec.quantise_weighted({"w": NORMAL}, ones, context)["w"].levels
    assert np.array_equal(weighted, plain)
    assert 0.6 < 1 - kept(plain) < 0.97


@pytest.mark.parametrize(
    ("update", "target", "left"),
    [
        ({"a": CENTRED[:1000], "zeros": np.zeros(9000)}, 0.9, 1000),
        ({"a": CENTRED[:1000], "zeros": np.zeros(9000)}, 0.95, 500),
        ({"a": CENTRED[:100], **{f"b{i}": np.ones(1) for i in range(100)}}, 0.3, 140),
        ({"a": CENTRED[:100], **{f"b{i}": np.ones(1) for i in range(100)}}, 0.9, 101),
        ({"a": CENTRED[:10]}, 0.96, 1),
        ({"constant": np.ones(5)}, 0.5, 5),
        ({"zeros": np.zeros(5)}, 0.5, 0),
    ],
)
def test_a_target_counts_all_weights(update: Tensors, target: float, left: int) -> None:
    """Zeros are gone from the start, constants never go, one weight of the others stays."""
    delta = delta_for(update, target, 0.0)
    assert sum(np.count_nonzero(below_threshold(v, delta, 0.0)) for v in update.values()) == left


def test_stc_is_its_formula() -> None:
    symbols = Stc(density=0.04).quantise({"w": NORMAL}, context_for({"w": NORMAL}))["w"]
    assert isinstance(symbols, Levels)
    order = np.sort(np.abs(NORMAL).reshape(-1))[::-1]
    count = int(np.ceil(0.04 * NORMAL.size))
    assert symbols.step == pytest.approx(order[:count].mean(dtype=np.float64), rel=1e-6)
    expected = np.where(np.abs(NORMAL) >= order[count - 1], np.sign(NORMAL), 0)
    assert np.array_equal(symbols.levels, expected)


@pytest.mark.parametrize("density", [0.04, 0.01])
def test_stc_with_golomb_takes_the_bits_of_the_paper(density: float) -> None:
    """Position bits of a kept weight: b* + 1/(1 − (1 − p)^(2^b*)), and one for its sign."""
    values = RNG.normal(size=(1000, 400)).astype(np.float32)
    data = Stc(density=density).encode({"w": values}, context_for({"w": values}))
    golden = (1 + np.sqrt(5)) / 2
    b = 1 + np.floor(np.log2(np.log(golden - 1) / np.log(1 - density)))
    bits = b + 1 / (1 - (1 - density) ** (2**b)) + 1
    assert 8 * len(data) == pytest.approx(bits * density * values.size, rel=0.03)
