from __future__ import annotations

from itertools import pairwise
from math import ceil, erf, exp, inf, pi, sqrt

import numpy as np
import pytest

from fedcomp.building import build
from fedcomp.codecs.base import Context
from fedcomp.codecs.eden import Eden
from fedcomp.codecs.eden_tables import CENTROIDS
from fedcomp.codecs.numbered import Numbered
from fedcomp.codecs.rotation import rotated
from fedcomp.errors import BitstreamError, CodecError, ConfigError
from tests.common import context_for, manifest_for

RNG = np.random.default_rng(3)
SPIKY = np.append(RNG.normal(size=199) * 0.3, 10.0)
SPIKY[5] = -4
VECTORS = {
    "normal": RNG.normal(size=2**16),
    "laplace": RNG.laplace(size=2**16),
    "spike": np.eye(1, 2**16, 77)[0],
    "two spikes": np.eye(1, 2**16, 77)[0] + np.eye(1, 2**16, 5000)[0],
    "spike above others": 300 * np.eye(1, 2**16, 77)[0] + RNG.normal(size=2**16),
}


def density(x: float) -> float:
    return exp(-x * x / 2) / sqrt(2 * pi)


def below(x: float) -> float:
    return (1 + erf(x / sqrt(2))) / 2


def cells(bits: int) -> list[tuple[float, float, float]]:
    """Centroid above 0, and the bounds of its cell."""
    above = CENTROIDS[bits]
    bounds = [0.0, *((a + b) / 2 for a, b in pairwise(above)), inf]
    return list(zip(above, bounds, bounds[1:], strict=False))


def distortion(bits: int) -> float:
    """E(x − Q(x))², which is 1 − E Q(x)² for centroids."""
    return 1 - sum(2 * c * c * (below(b) - below(a)) for c, a, b in cells(bits))


def decoded(codec: Eden, values: np.ndarray, number: int = 3) -> np.ndarray:
    tensors = {"w": values.astype(np.float32).reshape(1, -1)}
    context = context_for(tensors, number)
    return codec.decode(codec.encode(tensors, context), context)["w"].astype(np.float64)[0]


@pytest.mark.parametrize("bits", range(1, 9))
def test_centroids_are_the_means_of_their_cells(bits: int) -> None:
    assert len(CENTROIDS[bits]) == 2 ** (bits - 1)
    for centroid, low, high in cells(bits):
        assert low < centroid < high
        mass = below(high) - below(low)
        assert centroid == pytest.approx((density(low) - density(high)) / mass, abs=1e-10)


def test_distortions_are_those_of_max() -> None:
    assert distortion(1) == pytest.approx(1 - 2 / pi, abs=1e-12)
    published = [0.3634, 0.1175, 0.03454, 0.009497, 0.002499]  # Max, 1960, table I
    assert [distortion(bits) for bits in range(1, 6)] == pytest.approx(published, rel=3e-3)


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize(("bits", "oracle"), [(1, 0.572), (2, 0.1335), (3, 0.0357), (4, 0.0096)])
def test_error_of_any_vector_is_that_of_the_paper(name: str, bits: int, oracle: float) -> None:
    values = VECTORS[name].astype(np.float32)
    energy = np.square(values).sum()
    errors = {}
    for unbiased in (True, False):
        codec = Eden(bits=bits, unbiased=unbiased)
        drawn = [np.square(decoded(codec, values, i) - values).sum() for i in range(5)]
        errors[unbiased] = np.mean(drawn) / energy
    lost = distortion(bits)
    assert errors[True] == pytest.approx(oracle, rel=0.02)
    assert errors[True] == pytest.approx(lost / (1 - lost), rel=0.015)
    assert errors[False] == pytest.approx(lost, rel=0.015)


@pytest.mark.parametrize("bits", [5, 6, 7, 8])
def test_error_with_more_bits(bits: int) -> None:
    values = VECTORS["laplace"].astype(np.float32)
    error = np.square(decoded(Eden(bits=bits), values) - values).sum()
    lost = distortion(bits)
    assert error / np.square(values).sum() == pytest.approx(lost / (1 - lost), rel=0.03)


@pytest.mark.parametrize("bits", [1, 3])
def test_unbiased_however_uneven_the_weights_are(bits: int) -> None:
    draws = np.stack([decoded(Eden(bits=bits), SPIKY, number) for number in range(1000)])
    energy = np.square(SPIKY).sum()
    lost = distortion(bits)
    for count in (100, 1000):
        error = draws[:count].mean(axis=0) - SPIKY
        expected = lost / (1 - lost) * energy / count
        assert np.square(error).sum() == pytest.approx(expected, rel=0.3)
        spread = draws[:count].std(axis=0) / sqrt(count)
        assert (np.abs(error) <= 4.5 * spread).all()


def test_least_squares_shortens() -> None:
    draws = [decoded(Eden(unbiased=False), SPIKY, number) for number in range(300)]
    mean = np.mean(draws, axis=0)
    assert mean @ SPIKY / (SPIKY @ SPIKY) == pytest.approx(2 / pi, rel=0.02)
    assert all(np.square(draw - SPIKY).sum() <= SPIKY @ SPIKY for draw in draws)


@pytest.mark.parametrize("size", [8, 64, 100])
def test_one_bit_is_drive(size: int) -> None:
    tensors = {"w": RNG.laplace(size=(1, size)).astype(np.float32)}
    context = context_for(tensors)
    eye = np.eye(size)
    columns = [rotated(row, context.generator("w")) for row in eye]
    rotation = np.stack(columns, axis=1).astype(np.float64)
    weights = tensors["w"][0].astype(np.float64)
    turned = rotation @ weights
    signs = np.where(turned < 0, -1, 1)
    scales = {
        True: weights @ weights / np.abs(turned).sum(),  # the paper's unbiased one
        False: np.abs(turned).sum() / size,  # the one of least error
    }
    for unbiased, scale in scales.items():
        codec = Eden(unbiased=unbiased)
        out = codec.decode(codec.encode(tensors, context), context)["w"][0]
        assert np.allclose(out, rotation.T @ (scale * signs), atol=1e-5)


@pytest.mark.parametrize("bits", range(1, 9))
def test_levels_are_the_nearest_centroids(bits: int) -> None:
    tensors = {"w": RNG.standard_t(2.5, size=(1, 20_000)).astype(np.float32)}
    context = context_for(tensors)
    symbol = Eden(bits=bits).quantise(tensors, context)["w"]
    turned = rotated(tensors["w"][0], context.generator("w")).astype(np.float64)
    turned /= np.sqrt(np.square(turned).mean())
    above = np.array(CENTROIDS[bits])
    table = np.append(above, -above[::-1])
    distances = np.abs(turned[:, None] - table)
    chosen = distances[np.arange(turned.size), symbol.levels]
    assert (chosen <= distances.min(axis=1) + 1e-9).all()
    assert set(np.unique(symbol.levels)) <= set(range(-len(above), len(above)))
    assert np.count_nonzero(symbol.levels < 0) == np.count_nonzero(turned < 0)


def test_each_tensor_round_and_client_has_a_rotation_of_its_own() -> None:
    values = np.arange(64, dtype=np.float32).reshape(1, 64)
    tensors = {"a": values, "b": values}
    manifest = manifest_for(tensors)
    contexts = [
        Context(manifest, 1, 1, "uplink", "0"),
        Context(manifest, 2, 1, "uplink", "0"),
        Context(manifest, 1, 2, "uplink", "0"),
        Context(manifest, 1, 1, "downlink", "0"),
        Context(manifest, 1, 1, "uplink", "1"),
    ]
    found = [s.levels.tobytes() for c in contexts for s in Eden().quantise(tensors, c).values()]
    assert len(set(found)) == 2 * len(contexts)


@pytest.mark.parametrize("bits", range(1, 9))
def test_bytes_are_the_bits_and_a_scale(bits: int) -> None:
    for size, scales in ((3001, 1), (2**17 - 1, 1), (2**17, 2), (3 * 2**16 + 1, 3)):
        tensors = {"w": RNG.normal(size=(1, size)).astype(np.float32)}
        length = len(Eden(bits=bits, coder="fixed").encode(tensors, context_for(tensors)))
        assert 0 <= length - (ceil(size * bits / 8) + 4 * scales) <= 12


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_cabac_comes_near_the_entropy(bits: int) -> None:
    masses = [below(b) - below(a) for _, a, b in cells(bits)]
    entropy = -2 * sum(mass * np.log2(mass) for mass in masses)
    tensors = {"w": RNG.normal(size=(1, 50_000)).astype(np.float32)}
    length = len(Eden(bits=bits, coder="cabac").encode(tensors, context_for(tensors)))
    assert length <= 1.02 * entropy * 50_000 / 8 + 64


def test_an_empty_block_stays_empty() -> None:
    tensors = {"w": np.zeros((2, 2**16), np.float32)}
    tensors["w"][1] = RNG.normal(size=2**16)
    context = context_for(tensors)
    for codec in (Eden(bits=2), Eden(bits=2, unbiased=False)):
        data = codec.encode(tensors, context)
        symbol = codec.unpack(data, context)["w"]
        assert symbol.numbers[0] == 0
        assert not symbol.levels[: 2**16].any()
        out = codec.decode(data, context)["w"]
        assert not out[0].any()
        error = np.square(out[1] - tensors["w"][1]).sum() / np.square(tensors["w"]).sum()
        assert 0.11 < error < 0.14


@pytest.mark.parametrize("unbiased", [True, False])
def test_values_next_to_nothing_are_zeros_and_huge_ones_are_refused(unbiased: bool) -> None:
    codec = Eden(unbiased=unbiased)
    for size in (1e-300, 1e-40):
        tiny = {"w": np.full((2, 3), size)}
        context = context_for(tiny)
        assert not codec.decode(codec.encode(tiny, context), context)["w"].any()
    for size in (2.0**-126, 1.5 * 2.0**-126, 2.0**-120, 2.0**90):
        small = {"w": np.eye(1, 4).astype(np.float32) * np.float32(2 * size)}
        context = context_for(small)
        out = codec.decode(codec.encode(small, context), context)["w"]
        assert 0 < np.linalg.norm(out.astype(np.float64)) < 10 * size
    for size in (1e200, 2.0**97):
        huge = {"w": np.full((2, 2), size)}
        with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
            codec.encode(huge, context_for(huge))


def test_no_scale_is_smaller_than_a_receiver_takes() -> None:
    spike = np.eye(1, 4)[0] * 2.1 * 2.0**-126
    for number in range(10):
        assert decoded(Eden(unbiased=False), spike, number).any()


def test_half_floats_stay_finite() -> None:
    tensors = {"w": np.full((1, 100), 65504, np.float16)}
    context = context_for(tensors)
    codec = Eden(mode="absolute")
    out = codec.decode(codec.encode(tensors, context), context)["w"]
    assert np.isfinite(out).all()
    assert out.any()


@pytest.mark.parametrize(
    ("levels", "scales", "message"),
    [
        ([2, 0, 0, 0], [1, 1], r"beyond -2 … 1"),
        ([-3, 0, 0, 0], [1, 1], r"beyond -2 … 1"),
        ([0, 1, 0, 0], [0, 1], "empty block"),
        ([0, 0, 0, -1], [1, 0], "empty block"),
        ([0, 0, 0, 0], [0, 0], "no sender"),
        ([1, 0, 0, 1], [-1, 1], "no sender"),
        ([1, 0, 0, 1], [1e-40, 1], "no sender"),
        ([1, 0, 0, 1], [2.0**97, 1], "no sender"),
        ([1, 0, 0, 1], [np.inf, 1], "finite"),
    ],
)
def test_symbols_that_no_sender_writes_are_refused(
    levels: list[int], scales: list[float], message: str
) -> None:
    tensors = {"w": np.ones((2, 2**16), np.float32)}
    context = context_for(tensors)
    codec = Eden(bits=2, coder="golomb")
    filled = np.zeros(2**17, np.int32)
    filled[[0, 1, 2**16, -1]] = levels
    symbol = Numbered(filled, np.array(scales, np.float32))
    with pytest.raises(BitstreamError, match=message):
        codec.unpack(codec.pack({"w": symbol}, context), context)


def test_only_least_squares_contracts() -> None:
    assert not Eden().contracts
    assert Eden(unbiased=False).contracts
    worst = {}
    for unbiased in (True, False):
        codec = Eden(unbiased=unbiased)
        worst[unbiased] = max(
            np.mean([np.square(decoded(codec, spike, i) - spike).sum() for i in range(50)])
            for spike in np.eye(6)
        )
    assert worst[True] > 1.5
    assert worst[False] <= 1


@pytest.mark.parametrize("values", [{"bits": 0}, {"bits": 9}, {"unbiased": 2}, {"coder": "morse"}])
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(Eden, values, "uplink")
