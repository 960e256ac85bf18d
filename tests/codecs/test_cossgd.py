from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fedcomp.building import build
from fedcomp.codecs.cossgd import CosSgd
from fedcomp.codecs.levels import Levels
from fedcomp.codecs.numbered import Numbered
from fedcomp.errors import BitstreamError, CodecError, ConfigError
from fedcomp.tensors import Array
from tests.common import context_for

RNG = np.random.default_rng(5)
LAPLACE = RNG.laplace(size=(64, 577)).astype(np.float32)  # 36,928 weights, as in the study
SMALL = RNG.laplace(size=(12, 20)).astype(np.float32)


def decoded(codec: CosSgd, values: Array, number: int = 3) -> Array:
    context = context_for({"w": values}, number)
    return codec.decode(codec.encode({"w": values}, context), context)["w"]


def error(codec: CosSgd, values: Array = LAPLACE) -> float:
    wide = values.astype(np.float64)
    return float(np.linalg.norm(decoded(codec, values) - wide) / np.linalg.norm(wide))


def angles(values: Array, bits: int, clip: float) -> Array:
    """Quantise as the paper writes it, angle by angle, without zeros."""
    flat = values.reshape(-1).astype(np.float64)
    norm = math.sqrt(sum(v * v for v in flat))
    theta = np.array([math.acos(v / norm) for v in flat])
    away = np.sort(np.abs(theta - math.pi / 2))
    bound = math.pi / 2 - away[: flat.size - int(clip * flat.size)][-1]
    steps = 2**bits - 1
    kept = np.clip(theta, bound, math.pi - bound)
    k = np.round((kept - bound) / (math.pi - 2 * bound) * steps)
    return (norm * np.cos(k * (math.pi - 2 * bound) / steps + bound)).reshape(values.shape)


@pytest.mark.parametrize("clip", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_angles_are_those_of_the_paper(bits: int, clip: float) -> None:
    for values in (SMALL, SMALL[:1, :3], LAPLACE[:5]):
        expected = angles(values, bits, clip)
        found = decoded(CosSgd(bits=bits, clip=clip), values)
        assert found == pytest.approx(expected, rel=3e-6, abs=1e-6 * float(np.abs(values).max()))


@pytest.mark.parametrize(
    ("bits", "clip", "rounding", "expected"),
    [
        (1, 0.01, "nearest", 2.631),
        (2, 0.01, "nearest", 0.704),
        (4, 0.01, "nearest", 0.163),
        (8, 0.01, "nearest", 0.106),
        (1, 0.01, "stochastic", 3.090),
        (2, 0.01, "stochastic", 0.931),
        (4, 0.01, "stochastic", 0.205),
    ],
)
def test_error_of_laplacian_weights(bits: int, clip: float, rounding: str, expected: float) -> None:
    found = error(CosSgd(bits=bits, clip=clip, rounding=rounding))  # type: ignore[arg-type]
    assert found == pytest.approx(expected, rel=0.05)


def test_sixteen_bits_are_nearly_exact() -> None:
    assert error(CosSgd(bits=16, clip=0)) < 1e-4


def test_angles_are_right_on_average() -> None:
    values, bits, draws = SMALL[:2], 2, 3000
    codec = CosSgd(bits=bits, clip=0, rounding="stochastic")
    norm = np.linalg.norm(values.astype(np.float64))
    exact = np.arccos(values / norm)
    total = np.zeros(values.shape)
    for number in range(draws):
        context = context_for({"w": values}, number)
        seen = codec.reconstruct(codec.quantise({"w": values}, context), context)["w"]
        total += np.arccos(np.clip(seen / norm, -1, 1))
    step = 2 * np.abs(np.pi / 2 - exact).max() / (2**bits - 1)
    deviations = np.abs(total / draws - exact) / step
    assert (deviations <= 5 * 0.5 / math.sqrt(draws)).all()


def test_one_bit_is_the_sign_of_the_99th_percentile() -> None:
    found = decoded(CosSgd(bits=1), LAPLACE)
    sizes = np.sort(np.abs(LAPLACE).reshape(-1))
    at = sizes[LAPLACE.size - int(0.01 * LAPLACE.size) - 1]
    assert found == pytest.approx(np.sign(LAPLACE) * at, rel=1e-5)


def test_steps_grow_towards_the_middle_by_the_sine_of_the_bound() -> None:
    for share in (0.1, 0.5, 0.9):
        rest = math.sqrt((1 - share**2) / 2000)
        values = np.full((3, 667), rest, np.float32)
        values.flat[0] = share
        levels = np.arange(1, 129, dtype=np.int32).reshape(1, -1)
        codec, context = CosSgd(bits=8, clip=0), context_for({"w": values})
        symbol = codec.quantise({"w": values}, context)["w"]
        wide = context_for({"w": np.ones((1, 128), np.float32)})
        table = codec.reconstruct({"w": Numbered(levels, symbol.numbers)}, wide)["w"][0]
        steps = np.diff(table.astype(np.float64))
        ratio = math.sin(math.acos(share) + math.asin(share) / 255)  # at the middle of a step
        assert steps[-1] / steps[0] == pytest.approx(ratio, rel=0.01)


def test_zeros_stay_zeros_and_are_not_clipped_for() -> None:
    values = np.zeros((100, 100), np.float32)
    values[0, :20] = RNG.normal(size=20)
    for coder in ("cabac", "fixed", "deflate"):
        codec = CosSgd(bits=2, coder=coder)  # type: ignore[arg-type]
        out = decoded(codec, values)
        assert np.array_equal(out == 0, values == 0)
        assert out.max() == pytest.approx(np.abs(values).max(), rel=1e-5)
        size = len(codec.encode({"w": values}, context_for({"w": values})))
        assert size < (100 if coder != "fixed" else 1250 + 30)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_a_weight_takes_its_bits_and_a_tensor_two_floats(bits: int) -> None:
    codec = CosSgd(bits=bits, coder="fixed")
    size = len(codec.encode({"w": LAPLACE}, context_for({"w": LAPLACE})))
    assert 0 <= size - (math.ceil(LAPLACE.size * bits / 8) + 8) <= 16


def test_entropy_coding_pays_from_two_bits_on() -> None:
    context = context_for({"w": LAPLACE})
    for bits in (2, 4):
        sizes = {
            coder: len(CosSgd(bits=bits, coder=coder).encode({"w": LAPLACE}, context))  # type: ignore[arg-type]
            for coder in ("fixed", "deflate", "cabac")
        }
        assert sizes["cabac"] < sizes["deflate"] < sizes["fixed"]


@pytest.mark.parametrize("density", [0.1, 0.6])
def test_drawn_weights_arrive_larger_so_that_the_mean_is_right(density: float) -> None:
    codec = CosSgd(bits=16, clip=0, density=density)
    outputs = np.stack([decoded(codec, SMALL, number) for number in range(600)])
    kept = outputs != 0
    assert (np.count_nonzero(kept, axis=(1, 2)) == math.ceil(density * SMALL.size)).all()
    whole = np.broadcast_to(SMALL, outputs.shape)
    assert outputs[kept] == pytest.approx(whole[kept] / density, rel=0.02, abs=0.002)
    spread = outputs.std(axis=0) / math.sqrt(600)
    assert (np.abs(outputs.mean(axis=0) - SMALL) <= 5 * spread + 1e-3).all()


def test_positions_cost_no_byte() -> None:
    sizes = [
        len(
            CosSgd(bits=8, density=density, coder="fixed").encode(
                {"w": LAPLACE}, context_for({"w": LAPLACE})
            )
        )
        for density in (0.25, 0.5)
    ]
    assert abs(sizes[1] - sizes[0] - LAPLACE.size // 4) <= 4


def test_values_next_to_nothing_are_zeros_and_huge_ones_are_refused() -> None:
    for odd in (np.full((2, 2), 1e-40, np.float32), np.array([[1e-300, 0.0]])):
        assert not decoded(CosSgd(clip=0), odd).any()
    spread = np.array([[1e25] + [1e-25] * 3])  # what is left after clipping is no angle
    assert not decoded(CosSgd(clip=0.25), spread).any()
    with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
        decoded(CosSgd(), np.full((2, 2), 1e200))


@pytest.mark.parametrize(
    ("settings", "settles"),
    [
        ({}, True),
        ({"bits": 1}, False),
        ({"bits": 2, "clip": 0.0}, False),
        ({"bits": 4, "clip": 0.0}, True),
        ({"bits": 4, "density": 0.5}, False),
    ],
)
def test_a_packet_that_settles_is_nearer_than_none(settings: dict[str, Any], settles: bool) -> None:
    codec = CosSgd(**settings)
    assert codec.settles == settles
    assert (error(codec) < 0.98) == settles


def test_a_draw_of_zeros_is_a_tensor_of_zeros() -> None:
    values = np.zeros((50, 50), np.float32)
    values[0, 0] = 1
    context = context_for({"w": values})
    symbol = CosSgd(density=0.01).quantise({"w": values}, context)["w"]
    assert isinstance(symbol, Levels)
    assert symbol.levels.shape == (50, 50)


@pytest.mark.parametrize(
    ("levels", "numbers", "message"),
    [
        ([[3, 1]], [1, 1], "levels beyond 2"),
        ([[1, -(2**31)]], [1, 1], "levels beyond 2"),
        ([[1, 1]], [0, 1], "the norm"),
        ([[1, 1]], [-1, 1], "the norm"),
        ([[1, 1]], [2.0**97, 1], "the norm"),
        ([[1, 1]], [1, 1.6], "the angles span"),
        ([[1, 1]], [1, 0], "the angles span"),
        ([[1, 1]], [1, np.nan], "finite"),
    ],
)
def test_symbols_that_no_sender_writes_are_refused(
    levels: list[list[int]], numbers: list[float], message: str
) -> None:
    context = context_for({"w": np.ones((1, 2), np.float32)})
    codec = CosSgd(bits=2, coder="golomb")
    symbol = Numbered(np.array(levels, np.int32), np.array(numbers, np.float32))
    with pytest.raises(BitstreamError, match=message):
        codec.unpack(codec.pack({"w": symbol}, context), context)


@pytest.mark.parametrize(
    "values", [{"bits": 0}, {"bits": 17}, {"clip": 1}, {"density": 0}, {"rounding": "up"}]
)
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(CosSgd, values, "uplink")
