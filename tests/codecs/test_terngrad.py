from __future__ import annotations

import numpy as np
import pytest

from fedcomp.building import build
from fedcomp.codecs.terngrad import TernGrad
from fedcomp.errors import CodecError, ConfigError
from fedcomp.tensors import Array
from tests.common import context_for

RNG = np.random.default_rng(4)
WEIGHTS = RNG.normal(scale=0.1, size=(30, 40)).astype(np.float32)
ROUNDS = 400


def outputs(codec: TernGrad, values: Array) -> Array:
    drawn = []
    for number in range(ROUNDS):
        context = context_for({"w": values}, number)
        drawn.append(codec.decode(codec.encode({"w": values}, context), context)["w"])
    return np.stack(drawn).astype(np.float64)


@pytest.mark.parametrize("clip", [None, 1.5])
def test_mean_and_second_moment_are_those_of_the_paper(clip: float | None) -> None:
    found = outputs(TernGrad(clip=clip), WEIGHTS)
    sent = WEIGHTS.astype(np.float64)
    if clip is not None:
        edge = clip * np.sqrt(np.square(sent).mean())
        assert edge < np.abs(sent).max()
        sent = np.clip(sent, -edge, edge)
    scale = np.abs(sent).max()
    sizes = np.abs(sent)
    assert np.unique(found) == pytest.approx([-scale, 0, scale], rel=1e-6)
    assert ((found == 0) | (np.sign(found) == np.sign(sent))).all()
    variances = sizes * (scale - sizes)
    deviations = np.abs(found.mean(axis=0) - sent)
    assert (deviations <= 6 * np.sqrt(variances / ROUNDS) + 0.02 * scale).all()
    assert np.square(deviations).sum() == pytest.approx(variances.sum() / ROUNDS, rel=0.25)
    moments = np.square(found).sum(axis=(1, 2))
    deviation = np.sqrt((scale**2 * variances).sum() / ROUNDS)
    assert abs(moments.mean() - scale * sizes.sum()) <= 5 * deviation


def test_the_largest_value_is_certain_without_clipping() -> None:
    at = np.unravel_index(np.abs(WEIGHTS).argmax(), WEIGHTS.shape)
    found = outputs(TernGrad(clip=None), WEIGHTS)
    assert (found[:, at[0], at[1]] == WEIGHTS[at]).all()


def test_clipping_never_raises_the_scale() -> None:
    values = np.full((3, 3), -0.5, np.float32)
    found = outputs(TernGrad(clip=2.5), values)
    assert (found == -0.5).all()


def test_values_next_to_nothing_are_zeros_and_huge_ones_are_refused() -> None:
    tiny = np.full((2, 2), 1e-40, np.float32)
    assert not outputs(TernGrad(), tiny).any()
    edge = np.zeros((100, 100), np.float32)
    edge[0, 0] = 2.0**-126
    assert set(np.unique(outputs(TernGrad(clip=0.5), edge))) <= {0, 2.0**-126}
    huge = {"w": np.full((2, 2), 1e200)}
    with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
        TernGrad().encode(huge, context_for(huge))


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="clip"):
        build(TernGrad, {"clip": 0}, "uplink")
