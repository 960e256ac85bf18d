"""Codebooks and indices of models that have few different weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.building import build_codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.clustered import Clustered, Clusters
from fedcomp.codecs.clusters import centroids, nearest
from fedcomp.coding.reader import little_endian, varint
from fedcomp.config import compose_config
from fedcomp.errors import BitstreamError, CodecError, ConfigError
from fedcomp.tensors import Tensors
from tests.common import context_for, equal

RNG = np.random.default_rng(5)


def clustered(weights: np.ndarray, count: int) -> np.ndarray:
    found = centroids(weights, count).astype(np.float32)
    return np.asarray(found[nearest(weights, found)])


def model(count: int = 8) -> Tensors:
    weights = RNG.laplace(scale=0.05, size=(64, 32, 3, 3)).astype(np.float32)
    return {
        "conv": clustered(weights, count),
        "dense": RNG.normal(size=(20, 30)).astype(np.float32),
        "bias": RNG.normal(size=64).astype(np.float32),
        "few": RNG.normal(size=(2, 3)).astype(np.float32),
    }


@pytest.mark.parametrize("others", ["fp16", "fp32"])
@pytest.mark.parametrize("count", [2, 8, 30, 256])
def test_clusters_arrive_exactly_and_all_others_as_they_should(count: int, others: Any) -> None:
    tensors = model(count)
    codec, context = Clustered(others=others), context_for(tensors)
    found = codec.decode(codec.encode(tensors, context), context)
    assert found["conv"].tobytes() == tensors["conv"].tobytes()
    assert len(np.unique(found["conv"])) == count
    rest = {name: value for name, value in tensors.items() if name != "conv"}
    half = Cast(mode="absolute")
    expected = half.decode(half.encode(rest, context), context) if others == "fp16" else rest
    assert equal({name: found[name] for name in rest}, expected)


@pytest.mark.parametrize("coder", ["cabac", "fixed", "huffman"])
def test_alone_it_takes_what_the_entropy_of_indices_says(coder: Any) -> None:
    tensors = {"conv": model()["conv"]}
    codec = Clustered(coder=coder, predict=False)
    size = len(codec.encode(tensors, context_for(tensors)))
    _, counts = np.unique(tensors["conv"], return_counts=True)
    shares = counts / counts.sum()
    bound = {
        "cabac": -(counts * np.log2(shares)).sum() / 8,
        "huffman": -1.03 * (counts * np.log2(shares)).sum() / 8,
        "fixed": 3 * counts.sum() / 8,
    }
    assert size <= 1.02 * bound[coder] + 4 * 8 + 64


def test_what_the_receiver_holds_makes_indices_cheap() -> None:
    """Training that moves most weights by less than a cluster, and centroids with them."""
    tensors = model()
    weights = tensors["conv"] + RNG.normal(scale=0.004, size=tensors["conv"].shape)
    trained = tensors | {"conv": clustered(weights.astype(np.float32), 8)}
    moved = np.mean(trained["conv"] != tensors["conv"])
    assert moved > 0.5, "centroids move with the weights"
    context = context_for(tensors)
    sizes = {}
    for predict in (False, True):
        codec = Clustered(predict=predict)
        data = codec.encode({"conv": trained["conv"]}, context)
        assert equal(codec.decode(data, context), {"conv": trained["conv"]})
        sizes[predict] = len(data)
    assert sizes[True] < 0.4 * sizes[False]


@given(st.integers(0, 999), st.integers(1, 300), st.integers(1, 400), st.booleans())
@settings(deadline=None, max_examples=60)
def test_any_values_come_back(seed: int, count: int, size: int, held: bool) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.choice(rng.normal(size=count), size=(1, size + 1)).astype(np.float32)
    tensors = {"w": weights}
    context = context_for(tensors)
    other = {"w": rng.normal(size=weights.shape).astype(np.float32)} if held else None
    context = replace(context, reference=other)
    codec = Clustered(others="fp32")
    symbols = codec.quantise(tensors, context)
    assert equal(codec.decode(codec.pack(symbols, context), context), tensors)
    few = len(np.unique(weights))
    assert isinstance(symbols["w"], Clusters) == (few <= min(256, (size + 1) // 2))


def test_zeros_of_both_signs_are_one_cluster() -> None:
    weights = np.array([[0.0, -0.0, 1.0, -0.0, 1.0, 0.0]], np.float32)
    context = context_for({"w": weights})
    codec = Clustered()
    (symbol,) = codec.quantise({"w": weights}, context).values()
    assert symbol.book.tolist() == [0, 1]
    assert not np.signbit(symbol.book).any()
    found = codec.decode(codec.encode({"w": weights}, context), context)
    assert np.array_equal(found["w"], weights)


def test_values_that_float32_has_not_are_no_clusters() -> None:
    weights = np.tile(np.array([[0.1, 0.2]]), (3, 3))
    codec, context = Clustered(others="fp32"), context_for({"w": weights})
    assert equal(codec.decode(codec.encode({"w": weights}, context), context), {"w": weights})
    half = weights.astype(np.float16)
    found = codec.decode(codec.encode({"w": half}, context_for({"w": half})), context)
    assert np.array_equal(found["w"], half)


def test_what_is_not_finite_is_not_sent() -> None:
    for value in (np.nan, np.inf):
        weights = np.full((3, 4), value, np.float32)
        with pytest.raises(CodecError, match="tensor 'w' holds values that are not finite"):
            Clustered().quantise({"w": weights}, context_for({"w": weights}))


def test_models_with_the_same_weights_have_one_name() -> None:
    tensors = model()
    manifest = context_for(tensors).manifest
    codec = Clustered()
    name = codec.anchor(tensors, manifest)
    assert name == codec.anchor(tensors | {"bias": tensors["bias"] + 1}, manifest)
    assert name != codec.anchor(tensors | {"dense": tensors["dense"] + 1}, manifest)
    assert Clustered(predict=False).anchor(tensors, manifest) == b""


def frame(book: list[float], section: bytes, flag: bytes = b"\0") -> bytes:
    """Return the payload of one tensor."""
    rest = b"\1\0"  # of one tensor, which is not there
    numbers = little_endian(np.array(book, np.float32))
    size = bytes([len(book) - 1])
    return varint(len(rest)) + rest + flag + size + numbers + varint(len(section)) + section


def test_lies_are_refused() -> None:
    weights = {"w": np.array([[1, 2, 2, 1, 1, 1]], np.float32)}
    context = replace(context_for(weights), reference=None)
    codec = Clustered(coder="fixed")
    data = codec.encode(weights, context)
    section = data[-3:]
    honest = frame([1, 2], data[len(frame([1, 2], b"")) :])
    assert honest == data
    for book in ([2, 1], [1, 1], [1, np.nan], [1, np.inf], [-0.0, 1], [1, 2, 3, 4]):
        with pytest.raises(BitstreamError, match="has a codebook such as"):
            codec.unpack(frame(book, section), context)
    half = replace(context, manifest=context_for({"w": weights["w"].astype(np.float16)}).manifest)
    assert codec.unpack(frame([1, 2], data[len(frame([1, 2], b"")) :]), half)
    for book in ([1, 1e6], [1, 1.0001]):  # a float16 is neither
        with pytest.raises(BitstreamError, match="has a codebook such as"):
            codec.unpack(frame(book, section), half)
    for book in ([1, 2, 3], [1]):  # nobody has 3; there is no second one
        lie = frame(book, data[len(frame([1, 2], b"")) :])
        with pytest.raises(BitstreamError, match="indices outside its codebook, or does not use"):
            codec.unpack(lie, context)


def test_only_whole_models_travel() -> None:
    with pytest.raises(ConfigError, match="codec clustered works in mode absolute only"):
        compose_config(["codec@uplink=clustered", "uplink.mode=delta"])
    assert build_codec("clustered", "uplink") == Clustered()
