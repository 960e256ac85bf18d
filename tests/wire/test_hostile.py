"""6,300 damaged chains, packets with a right CRC-32, side information and payloads of codecs."""

from __future__ import annotations

import math
import random
import struct
import zlib
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.codecs.base import Codec, Context
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.coders import Coder
from fedcomp.codecs.nnc import Nnc
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import BitstreamError, CodecError
from fedcomp.tensors import Tensors, difference_dtype, subtract
from fedcomp.wire.packet import HEADER_BYTES, Flag, Packet, read_chain
from fedcomp.wire.side import TYPES, read_side, write_side
from tests.coding.hostile import Reader, Sample, attack, mutate
from tests.common import awkward_tensors, context_for, equal

CODECS: list[Codec] = [
    NoCompression(),
    *(Cast(mode=mode, dtype=dtype) for mode in Cast.modes for dtype in ("fp16", "bf16")),
    Nnc(),
    Nnc(qp=None, bits=5, quantiser="dependent"),
    *(Uniform(bits=None, step=0.01, coder=coder) for coder in get_args(Coder)),
]
EXACT = ("none", "cast")
"""Codecs of which other bytes mean other symbols."""
CRC_AT = HEADER_BYTES - 4


def packets() -> list[Packet]:
    rng = random.Random(30)
    sizes = [0, 1, 30, 1000]
    plain = [Packet(b"abcd", b"efgh", 7, rng.randbytes(n), b"base00", b"new000") for n in sizes]
    side = Packet(b"abcd", b"efgh", 2**32 - 1, rng.randbytes(9), side=rng.randbytes(99))
    return [*plain, side, Packet(b"held", b"efgh", 0, b"", flags=Flag.HELD | Flag.STANDALONE)]


def test_chains() -> None:
    """Nothing but the packets themselves gets past a CRC-32 that was written before the damage."""
    known = packets()

    def read(data: bytes) -> None:
        found = read_chain(data)
        assert all(packet in known for packet in found)
        assert b"".join(packet.to_bytes() for packet in found) == data

    chains = [known, known[::2], *pairwise(known), *([packet] for packet in known)]
    samples = [Sample(b"".join(p.to_bytes() for p in chain), Reader(read, 0)) for chain in chains]
    outcomes = attack("chains", samples, 1500)
    assert outcomes["refused"] > 1200
    assert outcomes["read"] > 10


def sealed(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Damage a packet and write the CRC-32 that it has then."""
    return with_crc(mutate(rng, data, other))


def damaged_inside(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Damage what follows the header, mostly, and write the length and CRC-32 that it has then."""
    if len(data) < HEADER_BYTES or rng.random() < 0.1:
        return sealed(rng, data, other)
    payload = mutate(rng, data[HEADER_BYTES:], other[HEADER_BYTES:])
    return with_crc(data[: CRC_AT - 4] + struct.pack("<II", len(payload), 0) + payload)


def with_crc(data: bytes) -> bytes:
    crc = zlib.crc32(data[HEADER_BYTES:], zlib.crc32(data[:CRC_AT]))
    return data[:CRC_AT] + crc.to_bytes(4, "little") + data[HEADER_BYTES:]


def test_packets_with_a_right_crc() -> None:
    def read(data: bytes) -> None:
        assert b"".join(packet.to_bytes() for packet in read_chain(data)) == data

    samples = [Sample(packet.to_bytes(), Reader(read, 0)) for packet in packets()]
    outcomes = attack("sealed", samples, 1000, damage=sealed)
    assert outcomes["refused"] > 200
    assert outcomes["read"] > 150


def test_side() -> None:
    rng = np.random.default_rng(31)

    def read(data: bytes) -> None:
        arrays = read_side(data)
        assert write_side(arrays) == data
        assert sum(array.nbytes for array in arrays.values()) <= len(data)

    every = {f"é{number}": rng.integers(0, 99, (2, 3)).astype(t) for number, t in enumerate(TYPES)}
    cases: list[Tensors] = [
        {},
        {"gram": rng.normal(size=(9, 9)).astype(np.float16)},
        every,
        {"a": np.array(1.5), "b": np.zeros((2, 0, 3, 2, 0, 1, 1, 700), np.int8)},
        {"n" * 255: np.arange(600, dtype=np.int16)},
    ]
    samples = [Sample(write_side(arrays), Reader(read, 0)) for arrays in cases]
    outcomes = attack("side", samples, 1500)
    assert outcomes["refused"] > 800
    assert outcomes["read"] > 100


@given(st.lists(st.integers(0, 2**32 - 1) | st.just(0), max_size=8), st.sampled_from(range(8)))
def test_shapes_of_empty_side_arrays_come_back_or_are_refused(shape: list[int], code: int) -> None:
    sides = [*shape[:7], 0]
    data = bytes([1, 1]) + b"a" + bytes([code, len(sides)]) + struct.pack(f"<{len(sides)}I", *sides)
    if math.prod(max(side, 1) for side in sides) > 1 << 24:
        with pytest.raises(BitstreamError, match="without having values"):
            read_side(data)
        return
    arrays = read_side(data)
    assert arrays["a"].shape == tuple(sides)
    assert write_side(arrays) == data


def test_side_of_no_arrays_and_of_boundless_ones() -> None:
    with pytest.raises(BitstreamError, match="no arrays"):
        read_side(b"\0")
    with pytest.raises(CodecError, match="cannot travel"):
        write_side({"x": np.zeros((0, 1 << 25), np.int8)})
    wide = {"x": np.zeros((0, 1 << 20), np.int8)}
    assert equal(read_side(write_side(wide)), wide)


def codec_reader(codec: Codec, context: Context) -> Reader:
    specs = context.manifest.by_name

    def read(data: bytes) -> None:
        packet = read_chain(data)[-1]
        with np.errstate(invalid="ignore"):  # some NaNs signal; links refuse all of them
            decoded = codec.decode(packet.payload, context)
        for name, value in decoded.items():
            stored = np.dtype(specs[name].dtype)
            exact = codec.mode == "absolute" and (codec.name == "none" or stored.kind != "f")
            assert value.shape == specs[name].shape
            assert value.dtype == (stored if exact else difference_dtype(stored))
        if codec.name in EXACT:
            assert codec.pack(codec.unpack(packet.payload, context), context) == packet.payload

    # Levels and values of up to 8 bytes; Huffman's tables of symbols.
    most = 80 if "huffman" in str(codec) else 20
    return Reader(read, most * context.manifest.elements)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_codecs(codec: Codec) -> None:
    model = awkward_tensors()
    weights = np.zeros((300, 400), np.float32)
    weights[::50] = 0.1
    large: Tensors = {"w": weights, "n": np.zeros(3, np.int64)}
    if codec.mode == "delta":
        model = subtract(model, {name: np.zeros_like(value) for name, value in model.items()})
    some = {name: model[name] for name in ("transposed", "scalar", "counter")}
    known, other = context_for(awkward_tensors()), context_for(large)
    samples, count = [], 300 if codec.name in EXACT else 100
    for tensors, context in ((model, known), (some, known), (large, other)):
        packet = Packet(codec.id, b"1234", 3, codec.encode(tensors, context))
        samples.append(Sample(packet.to_bytes(), codec_reader(codec, context)))
    outcomes = attack(str(codec), samples, count, damage=damaged_inside)
    assert outcomes["refused"] > count / 3
    assert outcomes["read"] > count / 10 or codec.name not in EXACT
