"""Integers at a fixed width: each takes as many bits as the widest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.bits import bytes_for, check_end, from_words, reader_of, to_words
from fedcomp.coding.kernels import late_kernel
from fedcomp.coding.nnc_checks import LIMITS, checked_levels, read_only
from fedcomp.errors import BitstreamError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MINIMUM_BYTES = (0, 1, 2, 4)


@late_kernel
def _pack(values: Any, lowest: int, width: int, words: Any) -> None:
    """Write v − lowest of every value, `width` bits each."""
    pending = np.uint64(0)
    have = 0
    at = np.uint64(0)
    for i in range(len(values)):
        pending |= np.uint64(np.int64(values[i]) - lowest) << np.uint64(have)
        have += width
        while have >= 32:
            words[at] = np.uint32(pending)
            pending >>= np.uint64(32)
            have -= 32
            at += np.uint64(1)
    if have:
        words[at] = np.uint32(pending)


@late_kernel
def _unpack(words: Any, lowest: int, width: int, out: Any) -> Any:
    """Read all values, add `lowest` to each and return the largest as it was read."""
    mask = (np.uint64(1) << np.uint64(width)) - np.uint64(1)
    top = np.uint64(0)
    for i in range(len(out)):
        bit = np.uint64(i) * np.uint64(width)
        at = bit >> np.uint64(5)
        pair = np.uint64(words[at]) | np.uint64(words[at + np.uint64(1)]) << np.uint64(32)
        value = pair >> (bit & np.uint64(31)) & mask
        top = max(top, value)
        out[i] = np.int64(value) + lowest
    return top


def _packed(values: NDArray[Any], lowest: int, width: int) -> bytes:
    bits = values.size * width
    words = np.zeros((bits + 31) // 32, dtype=np.uint32)
    if width:
        _pack(read_only(values), lowest, width, words)
    return from_words(words, bits, "<")


def _words_of(data: bytes | memoryview, width: int, count: int) -> NDArray[np.uint32]:
    """Return the words of `count` values once their length and their last byte are right."""
    bits = count * width
    if len(data) != (bits + 7) // 8:
        msg = f"{count} values of {width} bits take {(bits + 7) // 8} bytes, not {len(data)}"
        raise BitstreamError(msg)
    check_end(data, bits, "<")
    return to_words(data, "<")


def encode(levels: NDArray[Any]) -> bytes:
    """Return levels as their minimum and v − minimum at ⌈log2(maximum − minimum + 1)⌉ bits each.

    The first byte is the width plus 64 times which of 0, 1, 2 or 4 bytes the minimum takes.

    Examples
    --------
    >>> encode(np.array([-1, 0, 1, 1, -1])).hex()
    '42ffa400'
    """
    flat = checked_levels(levels)
    if not flat.size:
        return b""
    lowest = int(flat.min())
    width = (int(flat.max()) - lowest).bit_length()
    size = bytes_for(2 * max(lowest, ~lowest) + 1) if lowest else 0
    choice = next(i for i, length in enumerate(MINIMUM_BYTES) if length >= size)
    head = bytes([width | choice << 6])
    head += lowest.to_bytes(MINIMUM_BYTES[choice], "little", signed=True)
    return head + _packed(flat, lowest, width)


def decode(data: bytes | memoryview, count: int) -> NDArray[np.int32]:
    """Return `count` levels.

    Examples
    --------
    >>> decode(bytes.fromhex("42ffa400"), 5)
    array([-1,  0,  1,  1, -1], dtype=int32)
    """
    reader = reader_of(data, count)
    if not count:
        return np.empty(0, dtype=np.int32)
    head = reader.uint(1)
    width = head & 63
    if width > 32:
        msg = f"a width of {width} bits; levels take 32 at most"
        raise BitstreamError(msg)
    lowest = int.from_bytes(reader.take(MINIMUM_BYTES[head >> 6]), "little", signed=True)
    words = _words_of(reader.take(reader.left), width, count)
    out = np.empty(count, dtype=np.int32)
    highest = lowest + int(_unpack(words, lowest, width, out))
    if highest > LIMITS.max:
        msg = f"a level of {highest} lies beyond int32"
        raise BitstreamError(msg)
    return out
