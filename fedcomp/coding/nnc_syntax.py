"""Bits of the headers of NNC streams (ISO/IEC 15938-17): fixed widths, exponential Golomb, text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.errors import BitstreamError, CodecError

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_PREFIX = 40
SHORT_UNIT = 1 << 15
LONG_UNIT = 1 << 31


class BitWriter:
    """A header in the making, the highest bit first.

    Examples
    --------
    >>> writer = BitWriter()
    >>> writer.uint(5, 3)
    >>> writer.golomb(7, 1)
    >>> writer.align()
    >>> writer.data.hex()
    'a4c0'
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self._free = 0  # unused bits of the last byte

    def uint(self, value: int, bits: int) -> None:
        """Append a value of so many bits: u(n), or i(n) of a negative one."""
        if not -(1 << bits >> 1) <= value < 1 << bits:
            raise CodecError(f"{value} does not fit into the {bits} bits that a stream has for it")
        value &= (1 << bits) - 1
        while bits:
            if not self._free:
                self.data.append(0)
                self._free = 8
            n = min(bits, self._free)
            bits -= n
            self._free -= n
            self.data[-1] |= (value >> bits & (1 << n) - 1) << self._free

    def golomb(self, value: int, order: int) -> None:
        """Append ue(k): as many zeros as the value + 2^k has bits beyond k + 1, then these bits."""
        whole = value + (1 << order)
        zeros = whole.bit_length() - order - 1
        if value < 0 or zeros > LONGEST_PREFIX:
            raise CodecError(f"{value} is out of the range of a header's numbers")
        self.uint(0, zeros)
        self.uint(whole, zeros + order + 1)

    def text(self, value: str) -> None:
        """Append st: UTF-8 and a null byte, at a byte's start."""
        try:
            raw = value.encode()
        except UnicodeEncodeError:
            raise CodecError(f"name {value!r} has no UTF-8 form") from None
        if 0 in raw:
            raise CodecError(f"name {value!r} holds a null character, which ends names in a stream")
        self.data += raw + b"\0"

    def align(self) -> None:
        """Append a 1 and zeros up to the end of the byte."""
        self.uint(1, 1)
        self._free = 0


class BitReader:
    """A cursor through the header of one unit that never reads past its end.

    Examples
    --------
    >>> reader = BitReader(bytes.fromhex("a4c0"))
    >>> reader.uint(3), reader.golomb(1)
    (5, 7)
    >>> reader.align()
    >>> reader.left
    0
    """

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    @property
    def left(self) -> int:
        """Number of bytes not yet touched."""
        return len(self._data) - (self._at + 7) // 8

    def uint(self, bits: int) -> int:
        """Return u(n)."""
        end = self._at + bits
        if end > 8 * len(self._data):
            raise BitstreamError(f"a unit of {len(self._data)} bytes ends within its header")
        raw = int.from_bytes(self._data[self._at // 8 : (end + 7) // 8], "big")
        self._at = end
        return raw >> (-end & 7) & ((1 << bits) - 1)

    def sint(self, bits: int) -> int:
        """Return i(n), in two's complement."""
        value = self.uint(bits)
        return value - (value >> (bits - 1) << bits)

    def golomb(self, order: int) -> int:
        """Return ue(k)."""
        zeros = 0
        while not self.uint(1):
            zeros += 1
            if zeros > LONGEST_PREFIX:
                raise BitstreamError(f"a number in a header starts with over {zeros - 1} zeros")
        return ((1 << zeros) - 1 << order) + self.uint(zeros + order)

    def text(self) -> str:
        """Return st."""
        start = self._at // 8
        raw = bytes(self._data[start:])
        end = raw.find(0)
        if end < 0:
            raise BitstreamError("a name in a header has no end")
        self._at = 8 * (start + end + 1)
        try:
            return raw[:end].decode()
        except UnicodeDecodeError:
            raise BitstreamError(f"the name {raw[:end][:40]!r} in a header is not UTF-8") from None

    def align(self) -> None:
        """Skip a 1 and zeros up to the end of the byte."""
        bits = 8 - self._at % 8
        if self.uint(bits) != 1 << (bits - 1):
            raise BitstreamError("the fill bits at the end of a header are not 1, 0, 0 …")

    def rest(self) -> memoryview:
        """Return the bytes after the header."""
        return self._data[(self._at + 7) // 8 :]


def unit(kind: int, body: bytes | bytearray) -> bytes:
    """Return a unit: its whole size in 2 or 4 bytes, its type, and that it stands alone.

    Examples
    --------
    >>> unit(0, bytes([1])).hex()
    '00040201'
    """
    size = len(body) + 3
    short = size < SHORT_UNIT
    size += 0 if short else 2
    if size >= LONG_UNIT:
        raise CodecError(f"a unit of {size} bytes is too large; 2^31 − 1 are allowed")
    head = size.to_bytes(2, "big") if short else (size | LONG_UNIT).to_bytes(4, "big")
    return head + bytes([kind << 2 | 0b10]) + body


def units(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield type and body of every unit."""
    at = 0
    while at < len(data):
        wide = data[at] >> 7
        head = 4 if wide else 2
        size = int.from_bytes(data[at : at + head], "big") & (
            (LONG_UNIT if wide else SHORT_UNIT) - 1
        )
        if not head < size <= len(data) - at:
            raise BitstreamError(
                f"the unit at byte {at} claims {size} bytes; {len(data) - at} bytes are left"
            )
        kind = data[at + head]
        if not kind & 2:
            raise BitstreamError(f"the unit at byte {at} depends on others, which is not supported")
        if kind & 1:
            raise BitstreamError(
                f"the unit at byte {at} holds partial data, which is not supported"
            )
        yield kind >> 2, data[at + head + 1 : at + size]
        at += size
