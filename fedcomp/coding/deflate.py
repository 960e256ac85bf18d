"""Deflate (RFC 1951) of levels in the narrowest integer type that holds them.

The first byte says which type it is; the rest is a raw stream, for packets have their own CRC.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.bits import reader_of
from fedcomp.coding.nnc_checks import checked_levels
from fedcomp.errors import BitstreamError, CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TYPES = ("i1", "u1", "<i2", "<u2", "<i4")
"""Types of levels, the narrowest first; a stream holds the index."""

LEVELS = range(10)
WINDOW = -15
"""32 KiB, and minus for a stream without zlib's head and checksum."""


def narrowest(levels: NDArray[np.int32]) -> int:
    """Return the index in `TYPES` of the first type that holds all levels.

    Examples
    --------
    >>> [TYPES[narrowest(np.array([v], dtype=np.int32))] for v in (-128, 255, -129, 1 << 16)]
    ['i1', 'u1', '<i2', '<i4']
    """
    lowest, highest = int(levels.min()), int(levels.max())
    bounds = [np.iinfo(name) for name in TYPES]
    return next(i for i, b in enumerate(bounds) if b.min <= lowest and highest <= b.max)


def type_of(choice: int) -> np.dtype[Any]:
    """Return the type of that index."""
    if choice >= len(TYPES):
        msg = f"type {choice} of levels; there are {len(TYPES)}"
        raise BitstreamError(msg)
    return np.dtype(TYPES[choice])


def encode(levels: NDArray[Any], *, level: int = 9) -> bytes:
    """Return compressed levels.

    Examples
    --------
    >>> len(encode(np.zeros(1000, dtype=np.int64))) < 20
    True
    """
    if level not in LEVELS:
        msg = f"deflate level {level}; give {LEVELS.start} to {LEVELS.stop - 1}"
        raise CodecError(msg)
    flat = checked_levels(levels)
    if not flat.size:
        return b""
    choice = narrowest(flat)
    deflater = zlib.compressobj(level, wbits=WINDOW)
    body = deflater.compress(flat.astype(TYPES[choice]).data)
    return bytes([choice]) + body + deflater.flush()


def decode(data: bytes | memoryview, count: int) -> NDArray[np.int32]:
    """Return `count` levels.

    Examples
    --------
    >>> decode(encode(np.array([1, 1, 300])), 3)
    array([  1,   1, 300], dtype=int32)
    """
    reader = reader_of(data, count)
    if not count:
        return np.empty(0, dtype=np.int32)
    dtype = type_of(reader.uint(1))
    size = count * dtype.itemsize
    inflater = zlib.decompressobj(WINDOW)
    try:
        # One byte more than allowed, so that a longer stream shows and the end is reached.
        raw = inflater.decompress(reader.take(reader.left), size + 1)
    except zlib.error as error:
        msg = f"no deflate stream: {error}"
        raise BitstreamError(msg) from error
    if len(raw) != size or not inflater.eof or inflater.unused_data:
        msg = f"the deflate stream does not hold exactly {size} bytes for {count} levels"
        raise BitstreamError(msg)
    return np.frombuffer(raw, dtype=dtype).astype(np.int32)
