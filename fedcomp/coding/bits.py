"""Bits and bytes of the plain coders.

Every coder codes integers within int32 in C order, and the receiver knows how many there are:
`encode(levels) -> bytes`, `decode(data, count) -> int32 array`; no level takes no byte. Bits fill
bytes from the lowest on, and what is left of the last byte is zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.coding.reader import Reader
from fedcomp.errors import BitstreamError, CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reader_of(data: bytes | memoryview, count: int) -> Reader:
    """Return a reader for the bytes of `count` levels; there are none for no level."""
    if count < 0:
        msg = f"{count} levels to decode; give their number, 0 or more"
        raise CodecError(msg)
    reader = Reader(data)
    if not count:
        reader.end()
    return reader


def bytes_for(bound: int) -> int:
    """Return how many bytes hold any number from 0 to `bound`."""
    return (bound.bit_length() + 7) // 8


def to_words(data: bytes | memoryview, order: str) -> NDArray[np.uint32]:
    """Return bytes as words, with two words of zeros after them for those who read ahead."""
    padded = np.zeros(len(data) // 4 + 3, dtype=f"{order}u4")
    padded.view(np.uint8)[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    return padded.astype(np.uint32, copy=False)


def from_words(words: NDArray[np.uint32], bits: int, order: str) -> bytes:
    """Return the bytes that hold the first `bits` bits."""
    return words.astype(f"{order}u4", copy=False).view(np.uint8)[: (bits + 7) // 8].tobytes()


def check_end(data: bytes | memoryview, bits: int, order: str) -> None:
    """Raise unless only zeros up to the end of a byte follow the first `bits` bits."""
    used = (bits + 7) // 8
    if len(data) != used:
        msg = f"{len(data) - used} bytes follow the last level"
        raise BitstreamError(msg)
    part = bits % 8
    if part and (data[-1] >> part if order == "<" else data[-1] << part & 255):
        msg = "the bits after the last level are not zero"
        raise BitstreamError(msg)
