"""Reading bytes that nobody vouches for, and the numbers in them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedcomp.errors import BitstreamError


class Reader:
    """A cursor over bytes that never reads past their end.

    Examples
    --------
    >>> reader = Reader(bytes([7, 1, 0]))
    >>> reader.uint(1), reader.uint(2)
    (7, 1)
    >>> reader.end()
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    @property
    def left(self) -> int:
        """Number of bytes not read yet."""
        return len(self._data) - self._at

    def take(self, count: int) -> memoryview:
        """Return the next `count` bytes."""
        if count > self.left:
            msg = f"{count} bytes are announced at offset {self._at} but only {self.left} are left"
            raise BitstreamError(msg)
        part = self._data[self._at : self._at + count]
        self._at += count
        return part

    def uint(self, width: int) -> int:
        """Return an unsigned little-endian integer of `width` bytes."""
        return int.from_bytes(self.take(width), "little")

    def varint(self) -> int:
        """Return a number below 2^35 that `varint` wrote."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.uint(1)
            value |= (byte & 127) << shift
            if byte < 128:
                if shift and not byte:
                    msg = f"the number before offset {self._at} ends in a byte it does not need"
                    raise BitstreamError(msg)
                return value
        msg = f"the number before offset {self._at} takes more than 5 bytes"
        raise BitstreamError(msg)

    def array(self, dtype: str | np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Return a copy of the next little-endian array of that type and shape."""
        little = np.dtype(dtype).newbyteorder("<")
        count = 1
        for extent in shape:
            count *= extent
        raw = self.take(count * little.itemsize)
        flat = np.frombuffer(raw, dtype=little)
        return flat.astype(little.newbyteorder("="), copy=True).reshape(shape)

    def end(self) -> None:
        """Raise unless everything has been read."""
        if self.left:
            msg = f"{self.left} bytes follow the end of the data"
            raise BitstreamError(msg)


def little_endian(value: np.ndarray[Any, Any]) -> bytes:
    """Return the array's values as little-endian bytes in C order."""
    return value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes(order="C")


def varint(value: int) -> bytes:
    """Return a number of 0 or more, 7 bits a byte, the lowest first.

    Examples
    --------
    >>> varint(5).hex(), varint(300).hex()
    ('05', 'ac02')
    """
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
