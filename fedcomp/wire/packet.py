"""The container of everything that travels.

    offset size
         0    2  magic "FC"
         2    1  format
         3    1  flags: 1 stands alone, 2 held (names a version, carries nothing), 4 has side
         4    4  codec: hash of its name and settings
         8    4  session: hash of the manifest and of the run
        12    4  round
        16    6  base version (zero where the packet stands alone)
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
from fedcomp.errors import BitstreamError
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


NO_FLAGS = Flag(0)
_KNOWN = Flag.STANDALONE | Flag.HELD | Flag.SIDE


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
        if len(self.payload) > _LARGEST or len(self.side) > _LARGEST:
            msg = f"a packet holds at most 4 GiB, this payload has {len(self.payload)} bytes"
            raise BitstreamError(msg)
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
    if bits != flags or (Flag.HELD in flags and length):
        msg = f"the packet flags {bits:#04x} do not exist or contradict its length {length}"
        raise BitstreamError(msg)
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


def read_chain(data: bytes | memoryview) -> list[Packet]:
    """Read all packets of a chain, at least one."""
    reader = Reader(data)
    packets = [read_packet(reader)]
    while reader.left:
        packets.append(read_packet(reader))
    return packets
