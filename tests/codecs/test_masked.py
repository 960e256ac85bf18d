from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.building import build_codec
from fedcomp.codecs.base import Codec, Context, Mode
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.lossless import Lossless
from fedcomp.codecs.masked import Masked, MaskedCodec
from fedcomp.codecs.mixed import Mixed, Part
from fedcomp.codecs.nnc import Nnc
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.powersgd import PowerSgd
from fedcomp.codecs.randk import RandK
from fedcomp.codecs.uniform import Uniform
from fedcomp.coding.reader import Reader, varint
from fedcomp.errors import BitstreamError, ConfigError
from fedcomp.tensors import Kind, Manifest, Tensors, TensorSpec, add, subtract

MANIFEST = Manifest(
    (
        TensorSpec("conv", (6, 4, 3, 3), "float32", Kind.WEIGHT),
        TensorSpec("bias", (6,), "float32", Kind.BIAS),
        TensorSpec("dense", (10, 40), "float32", Kind.WEIGHT),
    )
)
INNER = {"absolute": (NoCompression(), Cast("absolute"), Uniform("absolute")), "delta": (Cast(),)}


def sparse(rng: np.random.Generator, density: float) -> Tensors:
    """Return a model with so many weights that are not zero."""
    return {
        s.name: np.asarray(rng.normal(size=s.shape) * (rng.random(s.shape) < density), np.float32)
        if s.kind is Kind.WEIGHT
        else rng.normal(size=s.shape).astype(np.float32)
        for s in MANIFEST.specs
    }


def context(reference: Tensors | None) -> Context:
    return Context(MANIFEST, 1, 3, "uplink", "0", reference)


def through(codec: Codec, model: Tensors, held: Tensors, around: Context) -> Tensors:
    """Return the model that a receiver has afterwards."""
    given = subtract(model, held) if codec.mode == "delta" else model
    decoded = codec.decode(codec.encode(given, around), around)
    return add(held, decoded) if codec.mode == "delta" else decoded


@settings(deadline=None)
@given(
    st.integers(0, 999),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    st.sampled_from(["absolute", "delta"]),
    st.sampled_from(get_args(Coder)),
)
def test_any_mask_follows_any_other(
    seed: int, before: float, after: float, mode: Mode, coder: Coder
) -> None:
    rng = np.random.default_rng(seed)
    held, model = sparse(rng, before), sparse(rng, after)
    for values in INNER[mode]:
        codec = MaskedCodec(mode, values, coder)
        found = through(codec, model, held, context(held))
        for name in ("conv", "dense"):
            assert not found[name][model[name] == 0].any()
            assert mode == "delta" or found[name][model[name] != 0].all()
            if not isinstance(values, Uniform):
                np.testing.assert_allclose(found[name], model[name], atol=4e-3)


@pytest.mark.parametrize("mode", ["absolute", "delta"])
@pytest.mark.parametrize("inner", [Cast(), Uniform(bits=4), Nnc()], ids=str)
def test_values_are_those_of_the_other_codec_on_vectors(mode: Mode, inner: Codec) -> None:
    rng = np.random.default_rng(1)
    held = {n: np.asarray(v * 0.1 + np.sign(v), np.float32) for n, v in sparse(rng, 0.1).items()}
    model = {n: np.asarray(v + 0.01 * (v != 0), np.float32) for n, v in held.items()}
    inner = replace(inner, mode=mode)
    codec, around = MaskedCodec(mode, inner), context(held)
    given = subtract(model, held) if mode == "delta" else model
    vectors = {n: v[held[n] != 0] for n, v in given.items()}
    specs = tuple(replace(s, shape=vectors[s.name].shape) for s in MANIFEST.specs)
    alone = replace(around, manifest=Manifest(specs), reference=None)
    data = inner.encode(vectors, alone)
    assert codec.encode(given, around) == varint(len(data)) + data + b"\1\0"  # no mask is told
    decoded, expected = codec.decode(codec.encode(given, around), around), inner.decode(data, alone)
    for name, value in expected.items():
        assert np.array_equal(decoded[name][held[name] != 0], value)


@pytest.mark.parametrize("inner", [Cast(), Uniform(bits=2)], ids=str)
def test_a_pruned_weight_becomes_exactly_zero(inner: Codec) -> None:
    rng = np.random.default_rng(2)
    held = sparse(rng, 0.5)
    mask = {n: rng.random(v.shape) < 0.5 for n, v in held.items()}
    model = {n: v * mask[n] if v.ndim > 1 else v for n, v in held.items()}
    found = through(MaskedCodec(values=inner), model, held, context(held))
    for name in ("conv", "dense"):
        assert not found[name][~mask[name]].any()
        np.testing.assert_array_equal(found[name], model[name])  # nothing else has changed


def entropy_bytes(share: float, count: int) -> float:
    """Return what so many independent bits, a share of them ones, take at least."""
    bits = -sum(p * math.log2(p) for p in (share, 1 - share) if p)
    return bits * count / 8


@pytest.mark.parametrize(
    ("before", "stays", "comes"),
    [
        *((1.0, 0.05, 0.0), (0.06, 0.8, 0.0), (0.06, 0.2, 0.0)),
        *((0.05, 0.7, 0.02), (0.5, 0.1, 0.9), (0.05, 0.7, 1e-4), (0.05, 1.0, 1.0)),
    ],
)
def test_masks_take_little_more_than_their_entropy(
    before: float, stays: float, comes: float
) -> None:
    rng = np.random.default_rng(3)
    shape = (200, 1000)
    manifest = Manifest((TensorSpec("w", shape, "float32", Kind.WEIGHT),))
    held = rng.random(shape) < before
    model = np.where(held, rng.random(shape) < stays, rng.random(shape) < comes)
    codec, sizes = MaskedCodec("absolute", NoCompression()), []
    for reference in (held, model):
        around = Context(manifest, 1, 1, "downlink", reference={"w": reference.astype(np.float32)})
        sizes.append(len(codec.encode({"w": model.astype(np.float32)}, around)))
    inside, outside = int(held.sum()), held.size - int(held.sum())
    least = entropy_bytes(stays, inside) + entropy_bytes(comes, outside)
    assert sizes[1] - 4 * int(model.sum()) in (5, 6)  # its length takes 2 or 3 bytes
    floor = 0.0105 * held.size / 8  # the least that a bin of the arithmetic coder takes
    assert 0.99 * least - 20 < sizes[0] - sizes[1] < 1.06 * least + floor + 30


def test_the_anchor_names_the_mask_and_nothing_else() -> None:
    rng, codec = np.random.default_rng(4), MaskedCodec("absolute", NoCompression())
    model = sparse(rng, 0.3)
    other = {n: np.asarray(3 * v, np.float32) for n, v in model.items()}
    assert codec.anchor(model, MANIFEST) == codec.anchor(other, MANIFEST)
    newer = sparse(rng, 0.3)
    data = codec.encode(newer, context(model))
    assert data == codec.encode(newer, context(other))
    assert np.array_equal(codec.decode(data, context(other))["conv"], newer["conv"])
    other["dense"][0, 0] = not other["dense"][0, 0]
    assert codec.anchor(model, MANIFEST) != codec.anchor(other, MANIFEST)


def test_importance_goes_with_its_weights() -> None:
    rng = np.random.default_rng(5)
    held = sparse(rng, 0.2)
    change = {
        n: np.asarray(rng.normal(scale=0.01, size=v.shape), np.float32) for n, v in held.items()
    }
    given = {n: v * (held[n] != 0) for n, v in change.items()}
    squares = {
        n: rng.random(v.shape).astype(np.float32) + 0.1 for n, v in given.items() if v.ndim > 1
    }
    inner = Nnc(qp=None, step=0.002, quantiser="weighted", rate_weight=0.3)
    codec, around = MaskedCodec(values=inner), context(held)
    found = codec.quantise_weighted(given, squares, around)
    specs = tuple(
        replace(s, shape=(int(np.count_nonzero(held[s.name])),)) if s.kind is Kind.WEIGHT else s
        for s in MANIFEST.specs
    )
    vectors = {n: v[held[n] != 0] if n in squares else v for n, v in given.items()}
    weights = {n: v[held[n] != 0] for n, v in squares.items()}
    alone = replace(around, manifest=Manifest(specs), reference=None)
    expected = inner.quantise_weighted(vectors, weights, alone)
    for name in squares:
        assert isinstance(found[name], Masked)
        np.testing.assert_array_equal(found[name].values.levels, expected[name].levels)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"\1\x40\1\1\0", "has no mask"),  # of the bias
        (b"\1\x80\0\1\0", "starts with 0, which says nothing or too much"),
        (b"\1\x80\x10\1\0", "starts with 16, which says nothing or too much"),
        (b"\1\x80\2\1\0", "starts with 2, which says nothing or too much"),
        (b"\1\x80\1\1\0", "as a sender writes it"),  # no bit is set
    ],
)
def test_lies_about_masks(tail: bytes, reason: str) -> None:
    held = sparse(np.random.default_rng(6), 0.3)
    codec, around = MaskedCodec("absolute", NoCompression(), "fixed"), context(held)
    data = codec.encode(held, around)
    assert data.endswith(b"\1\0")
    with pytest.raises(BitstreamError, match=reason):
        codec.unpack(data[:-2] + tail, around)


@pytest.mark.parametrize(
    ("bits", "flags", "reason"),
    [
        ([0, 2, 0, 0], 1, "neither 0 nor 1"),
        ([0, 0, 0, 0], 1, "as a sender writes it"),
        ([1, 1, 1, 0], 1, "as a sender writes it"),
        ([0, 1, 1, 0], 3, "as a sender writes it"),
        ([1, 1], 4, "as a sender writes it"),
    ],
)
def test_masks_that_no_sender_writes(bits: list[int], flags: int, reason: str) -> None:
    held = {"w": np.array([[1, 2, 3], [4, 0, 0]], np.float32)}
    manifest = Manifest((TensorSpec("w", (2, 3), "float32", Kind.WEIGHT),))
    around = Context(manifest, 1, 1, "uplink", "0", held)
    codec = MaskedCodec("absolute", NoCompression(), "golomb")
    values = NoCompression().encode({"w": np.ones((2, 3), np.float32)}, around)
    section = Coding("golomb").write({"w": np.array(bits, np.int32)})
    data = varint(len(values)) + values + b"\0" + bytes([flags]) + section
    assert Reader(data).varint() == len(values)
    with pytest.raises(BitstreamError, match=reason):
        codec.unpack(data, around)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_coarse_values_make_zero_stays_in_the_mask(dtype: type[np.floating[Any]]) -> None:
    """So that it is trained on, and the next packet need not tell the mask again."""
    model = {n: v.astype(dtype) for n, v in sparse(np.random.default_rng(7), 0.2).items()}
    specs = tuple(replace(spec, dtype=str(np.dtype(dtype))) for spec in MANIFEST.specs)
    around = replace(context(None), manifest=Manifest(specs))
    codec = MaskedCodec("absolute", Uniform("absolute", bits=2))
    decoded = codec.decode(codec.encode(model, around), around)
    public = {n: v.astype(dtype) for n, v in decoded.items()}
    for name in ("conv", "dense"):
        assert np.array_equal(public[name] != 0, model[name] != 0)
        assert ((public[name] != 0) & (np.abs(public[name]) < 1e-4)).any()
    data = codec.encode(model, replace(around, reference=public))
    assert data.endswith(b"\1\0")  # no mask


def test_parts_of_values_that_take_nothing_are_named() -> None:
    part = Part("conv", Uniform())
    codec = MaskedCodec(values=Mixed("delta", (part,), Uniform()))
    (problem,) = codec.misfits(MANIFEST)
    assert problem.startswith("values.parts.0.tensors=conv: takes no tensor of the model")


def test_lossless_values_take_the_receivers_into_account() -> None:
    held = sparse(np.random.default_rng(8), 0.5)
    model = {n: np.asarray(v * np.float32(1.001)) for n, v in held.items()}
    sizes = []
    for xor in (True, False):
        codec = MaskedCodec("absolute", Lossless(xor=xor))
        data = codec.encode(model, context(held))
        assert np.array_equal(codec.decode(data, context(held))["conv"], model["conv"])
        sizes.append(len(data))
        assert (codec.anchor(held, MANIFEST) == codec.anchor(model, MANIFEST)) != xor
    assert sizes[0] < 0.9 * sizes[1]


def test_what_cannot_hold_the_values_is_refused() -> None:
    with pytest.raises(ValueError, match="and its values=none has another one, absolute"):
        MaskedCodec("delta", NoCompression())
    with pytest.raises(ValueError, match="scope=model counts weights before masks are known"):
        MaskedCodec("delta", RandK(scope="model"))
    with pytest.raises(ValueError, match="looks at earlier packets"):
        MaskedCodec("delta", PowerSgd())


def test_configuration() -> None:
    made = build_codec({"name": "masked", "mode": "absolute", "values": "none"}, "uplink")
    assert made == MaskedCodec("absolute", NoCompression())
    values = {"name": "uniform", "bits": 6}
    assert build_codec({"name": "masked", "values": values}, "uplink") == MaskedCodec(
        values=Uniform(bits=6)
    )
    with pytest.raises(ConfigError) as error:
        build_codec({"name": "masked", "coder": "zip", "values": "uniforn", "x": 1}, "uplink")
    text = "\n".join(error.value.problems)
    assert "uplink.x=1: the key is unknown" in text
    assert "uplink.coder=zip" in text
    assert "uplink.values.name=uniforn" in text
    with pytest.raises(ConfigError, match=r"uplink: mode=delta: its values=none works in mode"):
        build_codec({"name": "masked", "values": "none"}, "uplink")
