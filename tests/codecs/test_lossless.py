from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import zstandard

from fedcomp.building import build
from fedcomp.codecs.lazy import LazySymbols
from fedcomp.codecs.lossless import Lossless
from fedcomp.codecs.none import NoCompression
from fedcomp.coding.reader import varint
from fedcomp.errors import BitstreamError, ConfigError
from fedcomp.tensors import Tensors
from tests.common import awkward_tensors, context_for, equal

RNG = np.random.default_rng(11)


def moved(tensors: Tensors, by: float) -> Tensors:
    """Return a model after some training."""
    return {
        name: np.asarray(value + by * RNG.normal(size=value.shape)).astype(value.dtype)
        if value.dtype.kind == "f"
        else value
        for name, value in tensors.items()
    }


@pytest.mark.parametrize("xor", [True, False])
@pytest.mark.parametrize("level", [1, 3, 22])
def test_every_bit_comes_back(xor: bool, level: int) -> None:
    model = awkward_tensors()
    model["odd"] = np.array([[np.nan, -0.0], [np.inf, 1e-40]], np.float32)
    model["odd"].view(np.uint32)[0, 0] |= 77  # a NaN with something to say
    codec = Lossless(level=level, xor=xor)
    for held in (model, moved(model, 0.01), {"half": model["half"]}, {}, None):
        context = replace(context_for(model), reference=held)
        found = codec.decode(codec.encode(model, context), context)
        assert {n: v.tobytes() for n, v in found.items()} == {
            n: v.tobytes() for n, v in model.items()
        }
        assert equal(found, model)


def test_payload_is_the_shuffled_difference_of_bits() -> None:
    """Brute force: what the bytes are to be."""
    held = {"w": RNG.normal(size=(30, 40)).astype(np.float32)}
    model = moved(held, 1e-4)
    context = replace(context_for(model), reference=held)
    bits = model["w"].view(np.uint32) ^ held["w"].view(np.uint32)
    planes = [(bits >> (8 * i) & 255).astype(np.uint8).tobytes() for i in range(4)]
    frame = zstandard.ZstdCompressor(level=5).compress(b"".join(planes))
    data = Lossless(level=5).encode(model, context)
    assert data == b"\0" + varint(len(frame)) + frame


def test_what_is_held_makes_an_update_smaller() -> None:
    held = {"w": RNG.normal(scale=0.1, size=(200, 300)).astype(np.float32)}
    model = moved(held, 1e-4)
    context = replace(context_for(model), reference=held)
    sizes = [len(codec.encode(model, context)) for codec in (Lossless(), Lossless(xor=False))]
    assert sizes[0] < 0.75 * 240_000 < sizes[1] < 240_000
    alone = replace(context, reference={})
    assert len(Lossless().encode(model, alone)) == sizes[1]


def test_what_cannot_be_shortened_is_sent_as_it_is() -> None:
    tensors = {
        "noise": RNG.integers(0, 256, size=5000).astype(np.uint8),
        "small": np.array([1.5, 2.5], np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    context = replace(context_for(tensors), reference={"small": tensors["small"] + 1})
    data = Lossless().encode(tensors, context)
    assert len(data) == 1 + 2 + 5000 + 1 + 8 + 1
    assert data[4:12] == tensors["noise"][1:9].tobytes()
    assert equal(Lossless().decode(data, context), tensors)


def test_never_much_longer_than_no_compression() -> None:
    model = awkward_tensors()
    context = replace(context_for(model), reference=None)
    most = len(NoCompression().encode(model, context)) + 2 * len(model)
    assert len(Lossless().encode(model, context)) <= most


def test_tensors_are_decoded_when_they_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {name: np.zeros((50, 50), np.float32) for name in "abc"}
    context = context_for(tensors)
    calls = []
    make = zstandard.ZstdDecompressor

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return make(*arguments)

    monkeypatch.setattr(zstandard, "ZstdDecompressor", counted)
    lazy = Lossless().lazy(Lossless().encode(tensors, context), context)
    assert isinstance(lazy, LazySymbols)
    assert not calls
    assert not lazy["b"].any()
    assert len(calls) == 1


def test_nothing_larger_than_the_tensor_is_unpacked() -> None:
    tensors = {"w": np.zeros((100, 100), np.float32)}
    context = context_for(tensors)
    compress = zstandard.ZstdCompressor().compress
    bomb = compress(bytes(10_000_000))
    assert len(bomb) < 40_000
    giant = bytes.fromhex("28b52ffde0") + (1 << 62).to_bytes(8, "little") + bytes(9)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(40_000))
    short = compress(bytes(39_999))
    twice = compress(bytes(40_000)) * 2
    for frame in (bomb, giant, unsized, short, twice, b"", bytes(50)):
        with pytest.raises(BitstreamError):
            Lossless().decode(b"\0" + varint(len(frame)) + frame, context)
    with pytest.raises(BitstreamError, match="'w' of 40000 bytes is announced with 40001"):
        Lossless().decode(b"\0" + varint(40_001) + bytes(40_001), context)
    whole = Lossless().decode(b"\0" + varint(40_000) + bytes(40_000), context)
    assert equal(whole, tensors), "the form of what cannot be shortened"


def test_only_whole_models_travel() -> None:
    assert Lossless.modes == ("absolute",)


@pytest.mark.parametrize("values", [{"level": 0}, {"level": 23}, {"xor": 1}])
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(Lossless, values, "uplink")
