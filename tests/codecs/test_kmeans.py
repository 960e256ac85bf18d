from __future__ import annotations

import numpy as np
import pytest

from fedcomp.building import build
from fedcomp.codecs.clusters import centroids
from fedcomp.codecs.kmeans import KMeans
from fedcomp.codecs.levels import Levels
from fedcomp.codecs.numbered import Numbered
from fedcomp.errors import BitstreamError, CodecError, ConfigError
from fedcomp.tensors import Array
from tests.common import context_for

RNG = np.random.default_rng(3)
WEIGHTS = RNG.laplace(size=(50, 400)).astype(np.float32)


def decoded(codec: KMeans, values: Array) -> Array:
    context = context_for({"w": values})
    return codec.decode(codec.encode({"w": values}, context), context)["w"]


def symbol_of(codec: KMeans, values: Array) -> Numbered:
    symbol = codec.quantise({"w": values}, context_for({"w": values}))["w"]
    assert isinstance(symbol, Numbered)
    return symbol


@pytest.mark.parametrize("mode", ["delta", "absolute"])
@pytest.mark.parametrize("clusters", [2, 16, 256])
def test_each_weight_becomes_the_nearest_centroid(mode: str, clusters: int) -> None:
    codec = KMeans(mode=mode, clusters=clusters)
    book = symbol_of(codec, WEIGHTS).numbers
    assert np.array_equal(book, centroids(WEIGHTS, clusters).astype(np.float32))
    out = decoded(codec, WEIGHTS)
    assert out.dtype == np.float32
    assert np.array_equal(out, book[np.abs(WEIGHTS[..., None] - book).argmin(axis=-1)])


def test_indices_count_from_the_centroid_nearest_to_zero() -> None:
    values = np.array([[-3.0, -1.0, 0.5], [0.5, 0.5, 9.0]], np.float32)
    symbol = symbol_of(KMeans(clusters=4), values)
    assert symbol.numbers.tolist() == [-3, -1, 0.5, 9]
    assert symbol.levels.tolist() == [[-2, -1, 0], [0, 0, 1]]
    levels, counts = np.unique(symbol_of(KMeans(clusters=5), WEIGHTS).levels, return_counts=True)
    assert levels[counts.argmax()] == 0


@pytest.mark.parametrize(("clusters", "bits"), [(2, 1), (3, 2), (16, 4), (17, 5), (256, 8)])
def test_a_centroid_costs_four_bytes_and_a_weight_the_bits_of_its_index(
    clusters: int, bits: int
) -> None:
    values = {"w": RNG.normal(size=(64, 64)).astype(np.float32)}
    data = KMeans(clusters=clusters, coder="fixed").encode(values, context_for(values))
    assert 0 <= len(data) - (4 * clusters + 64 * 64 * bits // 8) < 16


def test_entropy_coded_indices_take_their_entropy() -> None:
    symbol = symbol_of(KMeans(), WEIGHTS)
    shares = np.unique(symbol.levels, return_counts=True)[1] / WEIGHTS.size
    bound = WEIGHTS.size * float(-(shares * np.log2(shares)).sum()) / 8
    for coder in ("cabac", "huffman"):
        context = context_for({"w": WEIGHTS})
        assert len(KMeans(coder=coder).encode({"w": WEIGHTS}, context)) < 1.02 * bound + 128


def test_a_tensor_of_few_values_is_exact_and_its_codebook_is_filled_up() -> None:
    values = RNG.choice(np.array([-0.5, 0.1, 2.5], np.float32), size=(7, 3))
    symbol = symbol_of(KMeans(clusters=5), values)
    assert symbol.numbers.tolist() == [-0.5, np.float32(0.1), 2.5, 2.5, 2.5]
    assert np.array_equal(decoded(KMeans(clusters=5), values), values)
    assert np.array_equal(decoded(KMeans(clusters=3), values), values)
    only = np.array([[-0.75]], np.float32)
    assert symbol_of(KMeans(), only).numbers.tolist() == [-0.75]
    assert np.array_equal(decoded(KMeans(), only), only)


def test_what_does_not_change_stays_with_keep_zero() -> None:
    values = np.where(RNG.random(WEIGHTS.shape) < 0.1, np.abs(WEIGHTS), np.float32(0))
    held = decoded(KMeans(clusters=4, keep_zero=True), values)
    assert not held[values == 0].any()
    assert held.any()
    assert decoded(KMeans(clusters=4), values)[values == 0].all()
    without = np.array([[5.0, 6.0, 7.0, 8.0]])
    assert symbol_of(KMeans(clusters=2, keep_zero=True), without).numbers.tolist() == [6.5, 6.5]
    assert (decoded(KMeans(clusters=2, keep_zero=True), without) == 6.5).all()


def test_an_error_is_never_longer_than_the_tensor() -> None:
    for number in range(60):
        rng = np.random.default_rng(number)
        values = rng.normal(loc=number % 3, size=(3, int(rng.integers(1, 40)))) ** (1 + number % 4)
        for keep_zero in (False, True):
            codec = KMeans(clusters=2 + number % 5, keep_zero=keep_zero)
            error = np.square(decoded(codec, values) - values).sum()
            assert error <= np.square(values).sum()


def test_values_next_to_nothing_are_zeros_and_huge_ones_are_refused() -> None:
    tiny = np.array([[1e-40, 1.0, -1e-39]], np.float32)
    assert decoded(KMeans(), tiny).tolist() == [[0.0, 1.0, 0.0]]
    only = {"w": np.array([[1e-300, -1e-40]])}
    symbol = KMeans().quantise(only, context_for(only))["w"]
    assert isinstance(symbol, Levels)
    assert symbol.step == 0
    for size in (1e200, 2.0**97):
        huge = {"w": np.array([[size, 1.0, 2.0]])}
        with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
            KMeans().encode(huge, context_for(huge))


def test_doubles_that_are_one_float_share_a_centroid() -> None:
    values = np.array([[1.0, 1 + 2.0**-40, 3.0]])
    assert symbol_of(KMeans(), values).numbers.tolist() == [1, 3, 3]
    assert decoded(KMeans(), values).dtype == np.float64


def test_half_floats_stay_finite() -> None:
    values = np.array([[65504.0, -65504.0, 1.0]], np.float16)
    assert np.array_equal(decoded(KMeans(mode="absolute"), values), values)


@pytest.mark.parametrize(
    ("levels", "book", "message"),
    [
        ([0, 1, 2, 0], [1, 2, 3], ""),
        ([0, 1, 1, 0], [1, 2, 2], ""),
        ([0, 1, 3, 2], [1, 2, 3], "outside its codebook of 3"),
        ([0, 1, 2, -1], [1, 2, 3], "outside its codebook of 3"),
        ([0, 1, 2, 0], [1, 2, 2], "outside its codebook of 2"),
        ([0, 1, 2, 2**31 - 1], [-1, -1e-3, 0], "outside its codebook of 3"),
        ([0, 1, 1, 0], [1, 2, 3], "that no weight uses"),
        ([0, 1, 2, 0], [1, 3, 2], "no sender"),
        ([0, 1, 1, 0], [1, 1, 2], "no sender"),
        ([0, 0, 0, 0], [0, 0, 0], "no sender"),
        ([0, 1, 1, 0], [0, 1e-40, 1e-40], "no sender"),
        ([0, 1, 1, 0], [0, 2.0**97, 2.0**97], "no sender"),
        ([0, 1, 2, 0], [1, 2, np.inf], "finite"),
    ],
)
def test_symbols_that_no_sender_writes_are_refused(
    levels: list[int], book: list[float], message: str
) -> None:
    context = context_for({"w": WEIGHTS[:2, :2]})
    codec = KMeans(clusters=3, coder="fixed")
    symbol = Numbered(np.array(levels, np.int32).reshape(2, 2), np.array(book, np.float32))
    data = codec.pack({"w": symbol}, context)
    if message:
        with pytest.raises(BitstreamError, match=message):
            codec.unpack(data, context)
    else:
        assert codec.unpack(data, context)["w"].levels.reshape(-1).tolist() == levels


@pytest.mark.parametrize(
    "values", [{"clusters": 1}, {"clusters": 257}, {"keep_zero": 2}, {"coder": "morse"}]
)
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(KMeans, values, "uplink")
