from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fedcomp.building import build
from fedcomp.codecs.linear import Linear
from fedcomp.codecs.numbered import Numbered
from fedcomp.errors import BitstreamError, CodecError, ConfigError
from fedcomp.tensors import Array
from tests.common import context_for

RNG = np.random.default_rng(5)
LAPLACE = RNG.laplace(size=(64, 577)).astype(np.float32)
SMALL = RNG.laplace(size=(12, 20)).astype(np.float32)


def decoded(codec: Linear, values: Array, number: int = 3) -> Array:
    context = context_for({"w": values}, number)
    return codec.decode(codec.encode({"w": values}, context), context)["w"]


def error(codec: Linear, values: Array = LAPLACE) -> float:
    wide = values.astype(np.float64)
    return float(np.linalg.norm(decoded(codec, values) - wide) / np.linalg.norm(wide))


@pytest.mark.parametrize("clip", [0.0, 0.1])
@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_nearest_levels_by_brute_force(bits: int, clip: float) -> None:
    wide = SMALL.astype(np.float64)
    if clip:
        bound = np.sort(np.abs(wide).reshape(-1))[SMALL.size - int(clip * SMALL.size) - 1]
        wide = np.clip(wide, -bound, bound)
    table = np.linspace(wide.min(), wide.max(), 2**bits)
    expected = table[np.abs(wide[..., None] - table).argmin(axis=-1)]
    found = decoded(Linear(bits=bits, clip=clip, rounding="nearest"), SMALL)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_unbiased_with_stochastic_rounding() -> None:
    codec, draws = Linear(bits=2), 600
    outputs = np.stack([decoded(codec, SMALL, number) for number in range(draws)])
    step = float(SMALL.max() - SMALL.min()) / 3
    assert (np.abs(outputs.mean(axis=0) - SMALL) <= 5 * step / 2 / math.sqrt(draws)).all()
    assert outputs.std(axis=0).max() > step / 4


@pytest.mark.parametrize(("bits", "expected"), [(1, 7.281), (2, 1.667), (4, 0.341), (8, 0.020)])
def test_error_between_minimum_and_maximum(bits: int, expected: float) -> None:
    """The largest of so many Laplacian weights decides, which differs from draw to draw."""
    assert error(Linear(bits=bits, rounding="nearest")) == pytest.approx(expected, rel=0.25)


def test_clipping_makes_it_as_good_as_cossgd() -> None:
    for bits, expected in ((1, 2.631), (2, 0.704), (4, 0.163)):
        found = error(Linear(bits=bits, clip=0.01, rounding="nearest"))
        assert found == pytest.approx(expected, rel=0.06)


def test_a_rotation_takes_the_sting_out_of_large_weights() -> None:
    spiky = SMALL / 100
    spiky[0, 0] = 30
    plain, turned = (Linear(bits=4, rotation=r, rounding="nearest") for r in ("none", "hadamard"))
    assert error(turned, LAPLACE) < 0.6 * error(plain, LAPLACE)
    assert error(turned, spiky) < 0.2
    draws = 400
    outputs = np.stack(
        [decoded(Linear(bits=3, rotation="hadamard"), spiky, n) for n in range(draws)]
    )
    spread = outputs.std(axis=0) / math.sqrt(draws)
    assert (np.abs(outputs.mean(axis=0) - spiky) <= 5 * spread + 1e-5).all()


def test_a_weight_takes_its_bits_and_a_tensor_two_floats() -> None:
    for bits in (1, 2, 3, 8):
        for rotation in ("none", "hadamard"):
            codec = Linear(bits=bits, coder="fixed", rotation=rotation)  # type: ignore[arg-type]
            size = len(codec.encode({"w": LAPLACE}, context_for({"w": LAPLACE})))
            assert 0 <= size - (math.ceil(LAPLACE.size * bits / 8) + 8) <= 16


def test_constants_are_exact() -> None:
    values = np.full((3, 5), -0.375, np.float32)
    assert np.array_equal(decoded(Linear(bits=1), values), values)


@pytest.mark.parametrize(
    ("settings", "settles"),
    [
        ({}, False),
        ({"clip": 0.01}, True),
        ({"bits": 1, "clip": 0.01}, False),
        ({"bits": 3, "rotation": "hadamard"}, True),
        ({"bits": 2, "rotation": "hadamard"}, False),
    ],
)
def test_a_packet_that_settles_is_nearer_than_none(settings: dict[str, Any], settles: bool) -> None:
    codec = Linear(**settings)
    assert codec.settles == settles
    assert (error(codec) < 0.98) == settles


def test_values_next_to_nothing_are_zeros_and_huge_ones_are_refused() -> None:
    odd = {"rotation": "hadamard", "clip": 0.3}
    for settings in ({}, odd):
        for tiny in (np.full((2, 2), 1e-45, np.float32), np.full((2, 2), 1e-60)):
            assert not decoded(Linear(**settings), tiny).any()  # type: ignore[arg-type]
        with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
            decoded(Linear(**settings), np.full((2, 2), 1e200))  # type: ignore[arg-type]
    with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
        decoded(Linear(rotation="hadamard"), np.full((8, 8), 1.5e29))


@pytest.mark.parametrize(
    ("levels", "numbers", "message"),
    [
        ([[2, 0]], [-1, 1], "levels beyond the 4 of 2 bits"),
        ([[0, -3]], [-1, 1], "levels beyond the 4 of 2 bits"),
        ([[0, 1]], [1, -1], "a range from"),
        ([[0, 1]], [-1, 2.0**97], "a range from"),
        ([[0, 1]], [-(2.0**97), 1], "a range from"),
        ([[0, 1]], [np.inf, 1], "finite"),
    ],
)
def test_symbols_that_no_sender_writes_are_refused(
    levels: list[list[int]], numbers: list[float], message: str
) -> None:
    context = context_for({"w": np.ones((1, 2), np.float32)})
    codec = Linear(coder="golomb")
    symbol = Numbered(np.array(levels, np.int32), np.array(numbers, np.float32))
    with pytest.raises(BitstreamError, match=message):
        codec.unpack(codec.pack({"w": symbol}, context), context)


@pytest.mark.parametrize("values", [{"bits": 0}, {"clip": 1}, {"rotation": "fourier"}])
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(Linear, values, "uplink")
