"""Quantisers: the standard's steps, rounding, the trellis, rate and distortion."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.coding.nnc import decode_levels, encode_levels
from fedcomp.coding.nnc_tables import INIT_SETS, STATE_STEPS, TRELLIS
from fedcomp.coding.quantise import (
    dependent,
    dequantise,
    nearest_qp,
    qp_from_step,
    step_from_bits,
    step_from_qp,
    uniform,
)
from fedcomp.coding.quantise_rate import (
    rate_distortion,
    step_from_importance,
    weighted_rate_distortion,
)
from fedcomp.errors import CodecError

# (float32 weights in base64, levels of NNCodec 2.1.3) at qp -28.
TRELLIS_VECTORS = [
    (
        (
            "cRdMvxNvE7tKJty6gWFiOuTTHDuMoEs/P5/buu8YG7sAK6S7Lq/8OptqyTt0E9u6Hjp7O3AtRLtT"
            "YyE7cT40uhFoqTsEvKk6Q4M9uoJEALt7HSg96vQQuwFE0b/epJ27vcG8ux6UcToLFrk50JmNOwLb"
            "EDsWFQ273Jozu7dQfD+GIMM6L7aaORHFADujFGm7BiPeutb9Drs6fdI7fbLSuj0evbrqUbu6d7G5"
            "vkMX1LqHpzu5a8swu8lXojtrCrU61paVO0ZVP7ucdYC6m+72Oj26qTt/Y1G7"
        ),
        (
            "-102 0 0 0 0 102 0 0 0 0 1 0 0 -1 0 0 1 0 0 0 5 0 -209 -1 0 0 0 0 0 -1 0 "
            "126 0 0 0 0 0 0 1 0 0 0 -47 0 0 0 1 0 1 0 0 0 1 0"
        ),
    ),
    (
        (
            "7SwbO5L0Hjs01ja77DYJuxbGcbuSXQe64yxCO5sEEjzy4No7UqcCvBm977qNKBe8MZMIu1w/CTqT"
            "2zM60oPNO4+US7u+Cgo8rdcMvBytZTtFtj86U2ZWOxLJebuSsNc6r4JzuSRDf7ykPm07o6Y7OgU+"
            "dbl2Sus71Sh1u5i3oTk/XhA8+hgluyjhRDtWqVc7judwPDjYeLuXrYY7uQc/PI8WLbzvnyg7JSih"
            "uyflCbxrJOw6WXS3O5nbGTuFn8Q5aPb+Ny7vsLwzF0A85eyEOi12vbvO76O7GTkMPOX8IjxNW126"
            "568QPEpvHrsGsEu7Hl5Qu+r/eLvGP/o52e/wut9gzLqiiS68lW3zuo8jMTg="
        ),
        (
            "0 0 0 0 0 0 0 2 0 -1 0 -1 0 0 0 1 0 1 -1 0 0 0 0 0 0 -2 1 0 0 1 0 0 2 0 0 "
            "0 2 0 1 2 -1 0 0 -1 0 0 0 0 0 -2 2 0 -1 0 1 1 0 1 0 0 0 0 0 0 0 -1 0 0"
        ),
    ),
    (
        (
            "ECg8O/56jDk04lg7ssWNOiu1LboH4p86aH0mO0Tamrsv8hg8L+mPvi8q2jsndXA84Cuxuw9tGLph"
            "lJC7k+qIuwdEVL0H1j+9APcVuvDQiTtZxSO9FMm+vOD6IbpEAxk77XgHu9f5uTmDcgG7bBIlOwIA"
            "Pr2FnzI9j4I3vfNKGb47wz28sMNpvgqxmrvgKke5IWQPPSwKGDsbdKm6tlTvvZDfm70fl/28bGOu"
            "OxUhwz3OWp48z9iPPQkEAzv0RE66qOftO7KImz1fq667e4oiOUj5UTnMfIq6g9A8PpnrsD0kPiE8"
            "gbADvrqVHz0CHW09U/e6udDDwrqXeze7aWMPuw=="
        ),
        (
            "0 0 0 0 0 0 0 0 2 -36 1 1 -1 0 0 0 -7 -6 0 1 -6 -3 0 0 0 0 0 0 -6 5 -6 -20"
            " -2 -30 0 0 5 0 0 -15 -9 -4 1 12 2 9 0 0 1 9 -1 0 1 0 24 11 1 -16 5 8 0 0 "
            "0 0"
        ),
    ),
    (
        (
            "ru7CvRKM0b76mCU+B9kSPF7baTyWwka+L0yGPkXcpj2bnIq+bTcTO5Bmi774rhM9qQKiPa7orT2l"
            "jC4+BQvWvV4ZpD0zsyu8OyggvYY2ab57FEi+GnENvsL7ur2bRxQ+b7TMvVTZXb4="
        ),
        ("-12 -52 20 2 2 -25 34 10 -34 0 -34 5 11 11 21 -13 10 -1 -5 -29 -24 -17 -12 18 -13 -28"),
    ),
    (
        (
            "R8SZuoHOW70/v5+77IcoO1zWfzr65n67suGDOop3sruOnom6DY38OsYFzruqQ6w7HJOsO7lWQ7tf"
            "bbu8u7w3O6a8tL0HH3a93Tk8u65LU7tDgsc5nQ+Fu1vTnToaXDw7lKndOS2ZPLu2AWi7HXNbu+xz"
            "Jbt5A4A60UtFO9a+Hbv1Gia8PqKTOgEEgryNUs6679GIPTXm2brVl7O7Sg5Nustfgzp8oSS9TiwM"
            "u1wuEb13mh0832Tzuj4GRzrNI607TQmyODvaUzsJv6A6WfBAuyJcwTu4VoM5yp2OO/TZjTqb2gO7"
            "RtfOur6wbbpFKJs5dbukOSx7gbvzIPo6Y4sNvSE0XT2dD4S7LCQhO/yvFbzxrB+79hhwvXhTmD3w"
            "dBU9"
        ),
        (
            "0 -6 0 0 0 0 0 -1 0 0 0 1 1 0 -3 0 -11 -8 0 0 0 0 0 0 0 0 0 0 0 0 0 0 -1 0"
            " -2 0 8 0 0 0 0 -5 0 -4 1 0 0 1 0 0 0 0 1 0 1 0 0 0 0 0 0 -1 0 -5 7 0 0 -1"
            " 0 -7 9 5"
        ),
    ),
]


def laplace(count: int, scale: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).laplace(0, scale, count).astype(np.float32)


@pytest.mark.parametrize(
    ("qp", "step"),
    [
        *((-75, 2.384e-6), (-48, 2**-12), (-44, 2**-11), (-38, 1.465e-3), (-36, 2**-9)),
        *((-32, 2**-8), (-26, 1.172e-2), (-24, 2**-6), (-20, 2**-5), (-18, 4.6875e-2), (0, 1)),
    ],
)
def test_printed_steps(qp: int, step: float) -> None:
    assert step_from_qp(qp) == pytest.approx(step, rel=4e-4)


@given(st.integers(0, 7), st.data())
def test_qp_and_step_invert_each_other(density: int, data: st.DataObject) -> None:
    qp = data.draw(st.integers(-126 << density, (97 << density) - 1))
    step = step_from_qp(qp, density)
    assert step == np.float32(step)
    assert qp_from_step(step, density) == qp
    if qp + (1 << density) < 97 << density:
        assert step_from_qp(qp + (1 << density), density) == 2 * step
    given_step = step * data.draw(st.floats(1, 1.9))
    if given_step < 2.0**96:
        best = nearest_qp(given_step, density)
        error = abs(step_from_qp(best, density) - given_step)
        for other in (best - 1, best + 1):
            if -126 << density <= other < 97 << density:
                assert error <= abs(step_from_qp(other, density) - given_step)


def test_steps_out_of_range() -> None:
    with pytest.raises(CodecError, match="use -504 to 387"):
        step_from_qp(388)
    with pytest.raises(CodecError, match=r"the nearest is qp -40, step 0.0009765625"):
        qp_from_step(0.001)
    for step in (0.0, -1.0, math.nan, math.inf, 2.0**97):
        with pytest.raises(CodecError, match="it must be within"):
            nearest_qp(step)
    assert nearest_qp(math.nextafter(2.0**97, 0)) == 97 * 4 - 1


def test_uniform_rounds_half_away_from_zero() -> None:
    values = [0.5, -0.5, 1.5, -1.5, 2.5, 0.49, -2.51, 0, math.nextafter(0.5, 0)]
    assert uniform(np.array(values), 1).tolist() == [1, -1, 2, -2, 3, 0, -3, 0, 0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint64, bool])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (5, 4, 3)])
def test_any_kind_and_shape(dtype: Any, shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(1)
    values = (draw.normal(0, 3, shape) ** 2 * np.ones(shape)).astype(dtype)
    for levels in (
        *(uniform(values, 0.5), dependent(values, 0.5), rate_distortion(values, 0.5, 0)),
        weighted_rate_distortion(values, 0.5, 1.0, 0),
    ):
        assert levels.shape == shape
        assert levels.dtype == np.int32
        back = dequantise(levels, 0.5)
        assert back.shape == shape
        assert back.dtype == np.float32
        np.testing.assert_allclose(back, values.astype(np.float64), atol=1)


@pytest.mark.parametrize("count", [1, 7, 50, 100, 200, 10_000])
def test_steps_from_bits_leave_out_as_many_as_the_share_says(count: int) -> None:
    values = np.arange(1.0, count + 1)
    for percent in range(1, 101):
        rank = -(-percent * count // 100)
        assert step_from_bits(values, 2, percent / 100) == rank / 3
    assert step_from_bits(values, 2, 1e-12) == 1 / 3


def test_views_are_quantised_as_they_read() -> None:
    values = laplace(600, 1).reshape(20, 30)
    for quantiser in (uniform, dependent):
        expected = quantiser(np.ascontiguousarray(values[::2].T), 0.1)
        np.testing.assert_array_equal(quantiser(values[::2].T, 0.1), expected)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5), st.integers(-504, 387))
def test_dequantised_levels_are_finite_and_computed_in_double(levels: list[int], qp: int) -> None:
    step = step_from_qp(qp)
    values = dequantise(np.array(levels, np.int64), step)
    assert np.isfinite(values).all()
    assert values.tolist() == [float(np.float32(level * step)) for level in levels]


@pytest.mark.parametrize(
    "quantiser",
    [
        *(uniform, dependent, lambda w, step: rate_distortion(w, step, 0.1)),
        lambda w, step: weighted_rate_distortion(w, step, 1.0, 0.1),
    ],
)
def test_what_has_no_level_is_refused(quantiser: Any) -> None:
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(CodecError, match=f"value {bad} at position 1 cannot be quantised"):
            quantiser(np.array([0, bad]), 1.0)
    with pytest.raises(CodecError, match=r"does not fit into int32; raise the step to 0.0012"):
        quantiser(np.array([1.0, -2.0e6]), 2.0**-12)
    with pytest.raises(CodecError, match="give real numbers"):
        quantiser(np.array(["a"]), 1.0)
    with pytest.raises(CodecError, match=r"step 0\.0 is impossible"):
        quantiser(np.array([1.0]), 0.0)


def test_trellis_vectors() -> None:
    for text, expected in TRELLIS_VECTORS:
        weights = np.frombuffer(base64.b64decode(text), "<f4")
        levels = dependent(weights, step_from_qp(-28))
        assert levels.tolist() == [int(level) for level in expected.split()]


def least_error(values: np.ndarray) -> float:
    """Return the least squared error of the dependent quantiser at step 1 by plain Viterbi."""
    cost = [0.0] + [math.inf] * 7
    for x in values.tolist():
        after = [math.inf] * 8
        for state in range(8):
            for size in {0, *range(max(1, int(abs(x)) // 2 - 1), int(abs(x)) // 2 + 4)}:
                level = 2 * size - (state & 1 if size else 0)
                to = TRELLIS[state][size & 1]
                after[to] = min(after[to], cost[state] + (abs(x) - level) ** 2)
        cost = after
    return min(cost)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([0.3, 1, 4, 100]), st.integers(0, 60))
def test_trellis_is_optimal_and_codable(seed: int, scale: float, count: int) -> None:
    values = laplace(count, scale, seed).astype(np.float64)
    levels = dependent(values, 1)
    assert float(((values - levels) ** 2).sum()) == pytest.approx(least_error(values))
    payload = encode_levels(levels, dependent=True)
    np.testing.assert_array_equal(decode_levels(payload, levels.shape, dependent=True), levels)


def test_trellis_beats_uniform_at_equal_rate() -> None:
    weights = laplace(40_000, 0.05)
    coarse, fine = step_from_qp(-28), step_from_qp(-32)
    plain, trellis = uniform(weights, coarse), dependent(weights, fine)
    assert len(encode_levels(trellis, dependent=True)) < 1.03 * len(encode_levels(plain))
    error = [
        float(((weights - dequantise(*pair)) ** 2).mean())
        for pair in ((plain, coarse), (trellis, fine))
    ]
    assert error[1] < 0.85 * error[0]


class Estimator:
    """Contexts and prices of the coder by the formulas of the standard, one bin at a time."""

    def __init__(self) -> None:
        self.states: dict[Any, tuple[int, int]] = {}

    def bits(self, bins: list[tuple[Any, int]]) -> float:
        return sum(self._price(*self.states.get(key, (0, 0)), bin_) for key, bin_ in bins)

    def see(self, bins: list[tuple[Any, int]]) -> None:
        fast_rate, slow_rate = INIT_SETS[0][:2]
        for key, bin_ in bins:
            a, b = self.states.get(key, (0, 0))
            sign = 1 if bin_ else -1
            a += sign * (STATE_STEPS[16 + (sign * a >> 3)] >> fast_rate + 4)
            b += sign * (STATE_STEPS[16 + (sign * b >> 7)] >> slow_rate)
            self.states[key] = a, b

    @staticmethod
    def _price(a: int, b: int, bin_: int) -> float:
        i = 512 + (16 * a + b >> 3)
        less = round(32968 + 400.8 * min(abs(i - 512), 511))
        if bin_ != (i >= 512):
            return less / 32768
        return -math.log2(1 - 2 ** (-less / 32768))


def bins_of(level: int, near: int) -> list[tuple[Any, int]]:
    """Return contexts and bins of a level below 12."""
    size = abs(level)
    if not size:
        return [(("significant", near), 0)]
    bins: list[tuple[Any, int]] = [(("significant", near), 1), (("sign", near), int(level < 0))]
    return bins + [(("greater", k, level < 0), int(size > k)) for k in range(1, min(size, 11) + 1)]


def slow_choice(values: np.ndarray, candidates: Any, cost: Any) -> list[int]:
    estimator, near, chosen = Estimator(), 0, []
    for i, x in enumerate(values.tolist()):
        bits = {q: estimator.bits(bins_of(q, near)) for q in candidates(x)}
        best = min(bits, key=lambda q: cost(i, x, q, bits[q]))
        estimator.see(bins_of(best, near))
        near = (best > 0) - (best < 0)
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("scale", [0.3, 1.5])
@pytest.mark.parametrize("weight", [0.0, 0.03, 0.2])
def test_rates_are_those_of_the_contexts(scale: float, weight: float) -> None:
    values = np.clip(laplace(1500, scale, 4).astype(np.float64), -10, 10)

    def nearest(x: float) -> set[int]:
        n = math.floor(abs(x) + 0.5)
        return {0, *(int(math.copysign(q, x)) for q in (max(1, n - 1), n))}

    slow = slow_choice(values, nearest, lambda _, x, q, bits: (x - q) ** 2 + weight * bits)
    assert rate_distortion(values, 1, weight).tolist() == slow
    if weight == 0:
        assert uniform(values, 1).tolist() == slow


def test_weighted_choice_tries_all_levels_within_reach() -> None:
    values = np.clip(laplace(800, 1.5, 5).astype(np.float64), -8, 8)
    importance = np.random.default_rng(6).uniform(0.2, 3, values.size)
    reach = iter(importance)

    def within(x: float) -> set[int]:
        radius = 3 * next(reach)
        n = int(math.copysign(math.floor(abs(x) + 0.5), x))
        return {n, *(q for q in range(-11, 12) if abs(q - x) <= radius)}

    slow = slow_choice(
        values, within, lambda i, x, q, bits: ((x - q) * 2 / importance[i]) ** 2 + 0.1 * bits
    )
    assert weighted_rate_distortion(values, 1, importance, 0.1).tolist() == slow


def test_large_levels_and_rates() -> None:
    values = np.array([5000.2, -70000.6, 2**31 - 100, 0.2, 17.4])
    assert rate_distortion(values, 1, 1e-6).tolist() == uniform(values, 1).tolist()
    assert weighted_rate_distortion(values, 1, 1.0, 1e-9).tolist() == uniform(values, 1).tolist()


def test_rate_and_distortion_pay() -> None:
    weights = laplace(50_000, 0.004)
    step, weight = 2.0**-8, 0.1
    plain, chosen = uniform(weights, step), rate_distortion(weights, step, weight)
    gain = 8 * (len(encode_levels(plain)) - len(encode_levels(chosen)))
    price = (((weights / step - chosen) ** 2) - ((weights / step - plain) ** 2)).sum()
    assert gain > 0
    assert price < weight * gain


def test_important_weights_are_spared() -> None:
    weights = laplace(20_000, 1)
    importance = np.where(np.arange(weights.size) % 2, 0.3, 9.0)
    levels = weighted_rate_distortion(weights, 0.25, importance, 0.05)
    error = abs(weights - dequantise(levels, 0.25))
    assert error[1::2].mean() < 0.7 * error[::2].mean()
    same = weighted_rate_distortion(weights, 0.5, np.full(weights.shape, 0.7), 0.05)
    np.testing.assert_array_equal(same, weighted_rate_distortion(weights, 0.5, 0.7, 0.05))


def test_step_from_importance() -> None:
    assert step_from_importance(np.array([0.5, -1.0]), np.array([0.5, 1.0]), 0) == 3 / 6
    for values, importance, extra, message in (
        (np.ones(2), np.ones(3), 0, r"importance has shape \(3,\), the values have \(2,\)"),
        (np.ones(2), np.array([1.0, 0.0]), 0, "must be positive and finite"),
        (np.ones(2), 1.0, -1, "-1 extra steps are impossible"),
        (np.ones(0), 1.0, 1, "empty or not finite"),
        (np.array([math.nan]), 1.0, 1, "empty or not finite"),
    ):
        with pytest.raises(CodecError, match=message):
            step_from_importance(values, importance, extra)
    with pytest.raises(CodecError, match="weight nan of the rate is impossible"):
        rate_distortion(np.ones(2), 1, math.nan)
