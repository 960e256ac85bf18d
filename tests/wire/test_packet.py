from __future__ import annotations

import random
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.errors import BitstreamError, CodecError
from fedcomp.wire.packet import HEADER_BYTES, NO_VERSION, Flag, Packet, read_chain
from fedcomp.wire.side import TYPES, read_side, write_side
from tests.common import equal

packets = st.builds(
    Packet,
    codec=st.binary(min_size=4, max_size=4),
    session=st.binary(min_size=4, max_size=4),
    round=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=200),
    base=st.binary(min_size=6, max_size=6),
    version=st.binary(min_size=6, max_size=6),
    side=st.binary(max_size=50),
)
packets |= packets.map(lambda packet: replace(packet, base=NO_VERSION, flags=Flag.STANDALONE))


@given(st.lists(packets, min_size=1, max_size=4))
def test_chains_round_trip(chain: list[Packet]) -> None:
    assert read_chain(b"".join(packet.to_bytes() for packet in chain)) == chain


def test_header_is_small_and_exact() -> None:
    packet = Packet(codec=b"abcd", session=b"efgh", round=1, payload=b"xyz")
    assert HEADER_BYTES <= 40
    assert len(packet.to_bytes()) == HEADER_BYTES + 3
    assert len(Packet(b"abcd", b"efgh", 1, b"xyz", side=b"12").to_bytes()) == HEADER_BYTES + 9


def test_golden_packet() -> None:
    packet = Packet(b"abcd", b"efgh", 258, b"\1\2", b"base00", b"new000", side=b"s")
    expected = (
        "464301046162636465666768020100006261736530306e6577303030020000006c9f374e01020100000073"
    )
    assert packet.to_bytes().hex() == expected
    assert read_chain(bytes.fromhex(expected)) == [packet]


@given(packets, st.data())
def test_every_flip_and_truncation_is_found(packet: Packet, data: st.DataObject) -> None:
    good = packet.to_bytes()
    cut = data.draw(st.integers(0, len(good) - 1))
    with pytest.raises(BitstreamError):
        read_chain(good[:cut])
    flipped = bytearray(good)
    at = data.draw(st.integers(0, len(good) - 1))
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BitstreamError):
        read_chain(bytes(flipped))


def test_random_bytes_never_pass() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        with pytest.raises(BitstreamError):
            read_chain(b"FC\1" + rng.randbytes(rng.randrange(120)))


def test_errors_say_what_was_wrong() -> None:
    data = Packet(b"abcd", b"efgh", 1, b"xyz").to_bytes()
    with pytest.raises(BitstreamError, match="starts with"):
        read_chain(b"PK" + data[2:])
    with pytest.raises(BitstreamError, match="format 9 is not known"):
        read_chain(data[:2] + b"\x09" + data[3:])
    with pytest.raises(BitstreamError, match="CRC-32"):
        read_chain(data[:-1] + b"!")
    with pytest.raises(BitstreamError, match="are announced at offset"):
        read_chain(data[:-1])


class Huge(bytes):
    def __len__(self) -> int:
        return 2**32


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"codec": b"abc"}, "the codec of a packet has 4 bytes, this one 3"),
        ({"session": b"efghi"}, "the session of a packet has 4 bytes, this one 5"),
        ({"base": b""}, "the base of a packet has 6 bytes, this one 0"),
        ({"version": b"1234567"}, "the version of a packet has 6 bytes, this one 7"),
        ({"round": -1}, "a round from 0 to 4294967295, not of -1"),
        ({"round": 2**32}, "not of 4294967296"),
        ({"payload": Huge()}, "the payload of a packet has at most 4294967295 bytes"),
        ({"side": Huge()}, "the side of a packet has at most 4294967295 bytes"),
        ({"flags": Flag(16)}, "flags within 0x0f, not 0x10"),
        ({"flags": Flag.ANCHORED | Flag.STANDALONE}, "refers to a model, or to none"),
        ({"flags": Flag.HELD}, "names a held version has no payload, this one has 3 bytes"),
        ({"flags": Flag.STANDALONE, "base": b"base00"}, "has no base version, .* 626173653030"),
        ({"flags": Flag.HELD, "payload": b"", "base": b"base00"}, "has no base version"),
    ],
    ids=str,
)
def test_what_has_no_room_in_a_packet(field: dict[str, Any], message: str) -> None:
    packet = replace(Packet(b"abcd", b"efgh", 1, b"xyz"), **field)
    with pytest.raises(CodecError, match=message):
        packet.to_bytes()


@pytest.mark.parametrize(
    ("flags", "payload", "message"),
    [
        (Flag.STANDALONE, b"xyz", "has no base version"),
        (Flag.HELD, b"", "has no base version"),
        (Flag.HELD | Flag.STANDALONE, b"", "has no base version"),
        (Flag.HELD, b"xyz", "has no payload"),
        (16, b"xyz", "flags 0x10 do not exist"),
        (9, b"xyz", "refers to a model, or to none"),
    ],
)
def test_contradictions_are_refused(flags: int, payload: bytes, message: str) -> None:
    head = bytearray(Packet(b"abcd", b"efgh", 1, payload, b"base00").to_bytes()[:32])
    head[3] = flags
    crc = zlib.crc32(payload, zlib.crc32(head)).to_bytes(4, "little")
    with pytest.raises(BitstreamError, match=message):
        read_chain(bytes(head) + crc + payload)


arrays = st.dictionaries(
    st.text(min_size=1, max_size=10),
    st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 4), max_size=3)),
    max_size=4,
)


@given(arrays)
def test_side_round_trips(shapes: dict[str, tuple[str, list[int]]]) -> None:
    side = {name: np.ones(shape, dtype) for name, (dtype, shape) in shapes.items()}
    assert equal(read_side(write_side(side)), side)


@given(st.binary(max_size=60))
def test_hostile_side_ends_in_an_error_or_fits_its_bytes(data: bytes) -> None:
    try:
        side = read_side(data)
    except BitstreamError:
        return
    assert sum(value.nbytes for value in side.values()) <= len(data)


def test_side_names_what_cannot_travel() -> None:
    with pytest.raises(CodecError, match="complex128 cannot travel; allowed"):
        write_side({"z": np.ones(1, complex)})
