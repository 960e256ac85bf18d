from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.errors import BitstreamError, CodecError
from fedcomp.wire.packet import HEADER_BYTES, Flag, Packet, read_chain
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
    flags=st.sampled_from([Flag(0), Flag.STANDALONE]),
    side=st.binary(max_size=50),
)


@given(st.lists(packets, min_size=1, max_size=4))
def test_chains_round_trip(chain: list[Packet]) -> None:
    assert read_chain(b"".join(packet.to_bytes() for packet in chain)) == chain


def test_header_is_small_and_exact() -> None:
    packet = Packet(codec=b"abcd", session=b"efgh", round=1, payload=b"xyz")
    assert HEADER_BYTES <= 40
    assert len(packet.to_bytes()) == HEADER_BYTES + 3
    assert len(Packet(b"abcd", b"efgh", 1, b"xyz", side=b"12").to_bytes()) == HEADER_BYTES + 9


def test_golden_packet() -> None:
    packet = Packet(b"abcd", b"efgh", 258, b"\1\2", b"base00", b"new000", Flag.STANDALONE, b"s")
    expected = (
        "464301056162636465666768020100006261736530306e657730303002000000f94b47db01020100000073"
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
