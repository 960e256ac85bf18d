"""The container of everything that travels.

    offset size
         0    2  magic "FC"
         2    1  format
         3    1  flags: 1 stands alone, 2 held (names a version, carries nothing), 4 has side,
                8 anchored (what the codec takes of the model before has the base's name)
         4    4  codec: hash of its name and settings
         8    4  session: hash of the manifest and of the run
        12    4  round
        16    6  base version (zero where the packet stands alone or names a held version)
        22    6  new version (zero on the uplink)
        28    4  payload length
        32    4  CRC-32 of everything else in the packet
        36       payload, then with flag 4 the side length (4 bytes) and the side information

All integers are little-endian.  A chain is several packets one after the other.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntFlag

from fedcomp.coding.reader import Reader
from fedcomp.errors import BitstreamError, CodecError
from fedcomp.tensors import VERSION_BYTES

MAGIC = b"FC"
FORMAT = 1
NO_VERSION = bytes(VERSION_BYTES)

_HEAD = struct.Struct("<2sBB4s4sI6s6sI")
HEADER_BYTES = _HEAD.size + 4
_LARGEST = 2**32 - 1


class Flag(IntFlag):
    """Properties of a packet that its reader must know before the payload."""

    STANDALONE = 1
    HELD = 2
    SIDE = 4
    ANCHORED = 8


NO_FLAGS = Flag(0)
_KNOWN = Flag.STANDALONE | Flag.HELD | Flag.SIDE | Flag.ANCHORED
_WIDTHS = {"codec": 4, "session": 4, "base": VERSION_BYTES, "version": VERSION_BYTES}


@dataclass(frozen=True, slots=True)
class Packet:
    """One codec's payload with what its reader needs to trust it.

    Examples
    --------
    >>> packet = Packet(codec=b"none", session=b"1234", round=3, payload=b"abc")
    >>> data = packet.to_bytes()
    >>> len(data) - HEADER_BYTES, read_chain(data) == [packet]
    (3, True)
    """

    codec: bytes
    session: bytes
    round: int
    payload: bytes
    base: bytes = NO_VERSION
    version: bytes = NO_VERSION
    flags: Flag = NO_FLAGS
    side: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the packet as it travels."""
        problem = self._problem() or _contradiction(self.flags, self.base, len(self.payload))
        if problem:
            raise CodecError(problem)
        flags = self.flags | Flag.SIDE if self.side else self.flags & ~Flag.SIDE
        head = _HEAD.pack(
            MAGIC,
            FORMAT,
            int(flags),
            self.codec,
            self.session,
            self.round,
            self.base,
            self.version,
            len(self.payload),
        )
        tail = len(self.side).to_bytes(4, "little") + self.side if self.side else b""
        crc = zlib.crc32(tail, zlib.crc32(self.payload, zlib.crc32(head)))
        return b"".join((head, crc.to_bytes(4, "little"), self.payload, tail))

    def _problem(self) -> str:
        """Return which field the header has no room for, or nothing."""
        for name, width in _WIDTHS.items():
            size = len(getattr(self, name))
            if size != width:
                return f"the {name} of a packet has {width} bytes, this one {size}"
        for name in ("payload", "side"):
            size = len(getattr(self, name))
            if size > _LARGEST:
                return f"the {name} of a packet has at most {_LARGEST} bytes, this one {size}"
        if not 0 <= self.round <= _LARGEST:
            return f"a packet is of a round from 0 to {_LARGEST}, not of {self.round}"
        if int(self.flags) & ~int(_KNOWN):
            return f"a packet has flags within {int(_KNOWN):#04x}, not {int(self.flags):#04x}"
        return ""


def read_packet(reader: Reader) -> Packet:
    """Read one packet; raise `BitstreamError` on any byte its writer would not have written."""
    head = reader.take(_HEAD.size)
    magic, form, bits, codec, session, number, base, version, length = _HEAD.unpack(head)
    if magic != MAGIC:
        msg = f"a packet starts with {MAGIC!r}, this one with {magic!r}"
        raise BitstreamError(msg)
    if form != FORMAT:
        msg = f"packet format {form} is not known here, only {FORMAT}: update the older end"
        raise BitstreamError(msg)
    flags = Flag(bits & _KNOWN)
    if bits != flags:
        msg = f"the packet flags {bits:#04x} do not exist; update the older end"
        raise BitstreamError(msg)
    problem = _contradiction(flags, base, length)
    if problem:
        raise BitstreamError(problem)
    crc = reader.uint(4)
    payload = reader.take(length)
    found = zlib.crc32(payload, zlib.crc32(head))
    side = b""
    if Flag.SIDE in flags:
        size = reader.take(4)
        found = zlib.crc32(size, found)
        side = bytes(reader.take(int.from_bytes(size, "little")))
        found = zlib.crc32(side, found)
        if not side:
            msg = "the packet announces side information and carries none"
            raise BitstreamError(msg)
    if found != crc:
        msg = f"the packet's CRC-32 is {found:08x}, its header says {crc:08x}"
        raise BitstreamError(msg)
    return Packet(codec, session, number, bytes(payload), base, version, flags & ~Flag.SIDE, side)


def _contradiction(flags: Flag, base: bytes, length: int) -> str:
    """Return what the flags rule out and the packet has, or nothing."""
    if Flag.HELD in flags and length:
        return f"a packet that names a held version has no payload, this one has {length} bytes"
    if Flag.ANCHORED in flags and flags & (Flag.HELD | Flag.STANDALONE):
        return f"a packet with flags {flags!r} refers to a model, or to none"
    if flags & (Flag.HELD | Flag.STANDALONE) and base != NO_VERSION:
        return f"a packet with flags {flags!r} has no base version, this one has {base.hex()}"
    return ""


def read_chain(data: bytes | memoryview) -> list[Packet]:
    """Read all packets of a chain, at least one."""
    reader = Reader(data)
    packets = [read_packet(reader)]
    while reader.left:
        packets.append(read_packet(reader))
    return packets
