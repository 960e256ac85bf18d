"""Zstandard (RFC 8878) of levels in the narrowest integer type that holds them.

The first byte is the index of the type, plus 8 where the bytes are shuffled: first the lowest byte
of every level, then the next one of every level (Alted, 2010); the rest is one frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.bits import reader_of
from fedcomp.coding.deflate import TYPES, narrowest, type_of
from fedcomp.coding.nnc_checks import checked_levels
from fedcomp.errors import BitstreamError, CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHUFFLED = 8
LEVELS = range(1, 23)


def encode(levels: NDArray[Any], *, level: int = 9) -> bytes:
    """Return compressed levels, the smaller of shuffled and not.

    Examples
    --------
    >>> len(encode(np.zeros(1000, dtype=np.int64))) < 30
    True
    """
    import zstandard

    if level not in LEVELS:
        msg = f"zstd level {level}; give {LEVELS.start} to {LEVELS.stop - 1}"
        raise CodecError(msg)
    flat = checked_levels(levels)
    if not flat.size:
        return b""
    choice = narrowest(flat)
    narrow = flat.astype(TYPES[choice])
    compressor = zstandard.ZstdCompressor(level=level)
    plain = bytes([choice]) + compressor.compress(narrow.view(np.uint8).data)
    if narrow.itemsize == 1:
        return plain
    planes = narrow.view(np.uint8).reshape(-1, narrow.itemsize).T.copy()
    shuffled = bytes([choice | SHUFFLED]) + compressor.compress(planes.reshape(-1).data)
    return min(plain, shuffled, key=len)


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
    head = reader.uint(1)
    dtype = type_of(head & ~SHUFFLED)
    raw = content(reader.take(reader.left), count * dtype.itemsize)
    values = np.frombuffer(raw, dtype=np.uint8)
    if head & SHUFFLED:
        values = values.reshape(dtype.itemsize, -1).T.copy().reshape(-1)
    return values.view(dtype).astype(np.int32)


def content(frame: bytes | memoryview, size: int) -> bytes:
    """Return the `size` bytes that one frame holds; nothing larger is ever unpacked."""
    import zstandard

    try:
        announced = zstandard.frame_content_size(frame)
        if announced != size:
            msg = f"the frame announces {announced} bytes; its values take {size}"
            raise BitstreamError(msg)
        return bytes(zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False))
    except zstandard.ZstdError as error:
        msg = f"no zstd frame: {error}"
        raise BitstreamError(msg) from error
