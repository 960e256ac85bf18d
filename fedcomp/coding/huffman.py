"""Canonical Huffman code of codebook indices and small alphabets (Huffman 1952; Schwartz 1964).

Code words take 24 bits at most, at the least total length possible under that limit (Larmore and
Hirschberg 1990), and are written from their highest bit on. More than 65,536 different values are
refused: an escape would code what no codebook has, and such levels have better coders here.
Head: number of symbols, the least symbol (4 bytes), then for two and more the size of a Golomb
code and that code, of the first code length, the differences of the lengths and the gaps between
the symbols. A single symbol takes no further bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding import golomb
from fedcomp.coding.bits import bytes_for, check_end, from_words, reader_of, to_words
from fedcomp.coding.kernels import late_kernel
from fedcomp.coding.nnc_checks import LIMITS, checked_levels, read_only
from fedcomp.errors import BitstreamError, CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.coding.reader import Reader

MAX_SYMBOLS = 1 << 16
MAX_LENGTH = 24
TABLE_BITS = 12
"""Code words up to here are looked up at once; longer ones are rare."""


def code_lengths(frequencies: NDArray[Any], limit: int = MAX_LENGTH) -> NDArray[np.int64]:
    """Return the lengths ≤ `limit` that minimise Σ frequency·length, by package-merge.

    Examples
    --------
    >>> code_lengths(np.array([1, 1, 2, 4])), code_lengths(np.array([1, 1, 2, 4]), 2)
    (array([3, 3, 2, 1]), array([2, 2, 2, 2]))
    """
    count = len(frequencies)
    if count > 1 << limit:
        msg = f"{count} symbols do not fit into code words of {limit} bits"
        raise CodecError(msg)
    order = np.argsort(frequencies, kind="stable")
    leaves = np.asarray(frequencies, dtype=np.int64)[order]
    row = leaves
    is_leaf = [np.ones(count, dtype=bool)]
    for _ in range(min(limit, count - 1) - 1):
        packages = row[: len(row) // 2 * 2].reshape(-1, 2).sum(axis=1)
        merged = np.concatenate([leaves, packages])
        rank = np.argsort(merged, kind="stable")
        row = merged[rank]
        is_leaf.append(rank < count)
    lengths = np.zeros(count, dtype=np.int64)
    taken = 2 * count - 2
    for flags in reversed(is_leaf):
        used = int(np.count_nonzero(flags[:taken]))
        lengths[order[:used]] += 1
        taken = 2 * (taken - used)
    return lengths


def _canonical(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the symbols' indices by length and then value, and their words at 24 bits."""
    order = np.argsort(lengths, kind="stable")
    spans = np.left_shift(1, MAX_LENGTH - lengths[order])
    return order, np.cumsum(spans) - spans


@late_kernel
def _count(levels: Any, lowest: int, counts: Any) -> None:
    """Count every value."""
    for i in range(len(levels)):
        counts[np.uint64(np.int64(levels[i]) - lowest)] += 1


@late_kernel
def _write(levels: Any, lowest: int, codes: Any, words: Any) -> None:
    """Write the code words; an entry of `codes` is 32·word + length."""
    pending = np.uint64(0)
    have: Any = 0
    at = np.uint64(0)
    for i in range(len(levels)):
        code = codes[np.uint64(np.int64(levels[i]) - lowest)]
        length = np.int64(code & np.uint32(31))
        pending = pending << np.uint64(length) | np.uint64(code >> np.uint32(5))
        have += length
        if have >= 32:
            have -= 32
            words[at] = np.uint32(pending >> np.uint64(have))
            at += np.uint64(1)
    if have:
        words[at] = np.uint32(pending << np.uint64(32 - have))


@late_kernel
def _read(words: Any, total: int, table: Any, ends: Any, ranks: Any, values: Any, out: Any) -> Any:
    """Read the levels; return the number of bits read, or −1 if there are too few.

    An entry of `table` is 32·rank + length, or 0 where the words are longer than its index. Those
    of length n are the ones below `ends`[n], at 24 bits, and have ranks from word + `ranks`[n] on.
    """
    bit: Any = 0
    length: Any
    for i in range(len(out)):
        if bit >= total:
            return -1
        at = np.uint64(bit >> 5)
        pair = np.uint64(words[at]) << np.uint64(32) | np.uint64(words[at + np.uint64(1)])
        next24 = np.int64(pair << np.uint64(bit & 31) >> np.uint64(40))
        entry = np.int64(table[np.uint64(next24 >> (MAX_LENGTH - TABLE_BITS))])
        length = entry & 31
        rank = entry >> 5
        if not entry:
            length = TABLE_BITS + 1
            while next24 >= ends[np.uint64(length)]:
                length += 1
            rank = (next24 >> (MAX_LENGTH - length)) + ranks[np.uint64(length)]
        out[i] = values[np.uint64(rank)]
        bit += length
    return bit if bit <= total else -1


def _alphabet(
    flat: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], int]:
    """Return symbols, frequencies, the symbols' places in a table, indices and their offset.

    A place is an index minus the offset; a table over a far larger span than levels is avoided.
    """
    lowest = int(flat.min())
    span = int(flat.max()) - lowest + 1
    if span > MAX_SYMBOLS + flat.size // 2:
        found, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
        return found.astype(np.int64), counts, np.arange(len(found)), inverse.astype(np.int32), 0
    counts = np.zeros(span, dtype=np.int64)
    _count(flat, lowest, counts)
    present = np.flatnonzero(counts)
    return present + lowest, counts[present], present, flat, lowest


def encode(levels: NDArray[Any]) -> bytes:
    """Return levels as code words.

    Examples
    --------
    >>> encode(np.array([5, 5, 5, 5, 6, 6, 7, 8])).hex()
    '04050000000400030000150adc'
    """
    flat = checked_levels(levels)
    if not flat.size:
        return b""
    symbols, frequencies, slots, indices, lowest = _alphabet(flat)
    count = len(symbols)
    if count > MAX_SYMBOLS:
        msg = f"{count} different levels; Huffman codes {MAX_SYMBOLS} at most: take another coder"
        raise CodecError(msg)
    head = count.to_bytes(bytes_for(min(flat.size, MAX_SYMBOLS)), "little")
    head += int(symbols[0]).to_bytes(4, "little", signed=True)
    if count == 1:
        return head
    lengths = code_lengths(frequencies)
    gaps = np.diff(symbols) - 1
    # A gap can take 32 bits and wraps to a negative level.
    table = golomb.encode(np.concatenate([np.diff(lengths, prepend=0), gaps]).astype(np.int32))
    head += len(table).to_bytes(bytes_for(golomb.MOST_BITS * count), "little") + table
    order, starts = _canonical(lengths)
    codes = np.zeros(int(slots[-1]) + 1, dtype=np.uint32)
    codes[slots[order]] = starts >> (MAX_LENGTH - lengths[order]) << 5 | lengths[order]
    bits = int(frequencies @ lengths)
    out = np.zeros((bits + 31) // 32, dtype=np.uint32)
    _write(read_only(indices), lowest, codes, out)
    return head + from_words(out, bits, ">")


def _read_alphabet(reader: Reader, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return symbols and code lengths."""
    size = reader.uint(bytes_for(min(count, MAX_SYMBOLS)))
    if not 1 <= size <= min(count, MAX_SYMBOLS):
        msg = f"{size} different symbols in {count} levels; there are 1 to {MAX_SYMBOLS}"
        raise BitstreamError(msg)
    lowest = int.from_bytes(reader.take(4), "little", signed=True)
    if size == 1:
        return np.array([lowest]), np.zeros(1, dtype=np.int64)
    part = reader.take(reader.uint(bytes_for(golomb.MOST_BITS * size)))
    table = golomb.decode(part, 2 * size - 1)
    lengths = np.cumsum(table[:size], dtype=np.int64)
    steps = table[size:].view(np.uint32).astype(np.int64) + 1
    symbols = np.concatenate([[lowest], lowest + np.cumsum(steps)])
    if symbols[-1] > LIMITS.max:
        msg = f"a level of {symbols[-1]} lies beyond int32"
        raise BitstreamError(msg)
    if lengths.min() < 1 or lengths.max() > MAX_LENGTH:
        msg = f"code lengths from {lengths.min()} to {lengths.max()}; allowed: 1 to {MAX_LENGTH}"
        raise BitstreamError(msg)
    if np.left_shift(1, MAX_LENGTH - lengths).sum() != 1 << MAX_LENGTH:
        msg = "the code lengths are not those of a complete code"
        raise BitstreamError(msg)
    return symbols, lengths


def decode(data: bytes | memoryview, count: int) -> NDArray[np.int32]:
    """Return `count` levels.

    Examples
    --------
    >>> decode(bytes.fromhex("04050000000400030000150adc"), 8)
    array([5, 5, 5, 5, 6, 6, 7, 8], dtype=int32)
    """
    reader = reader_of(data, count)
    if not count:
        return np.empty(0, dtype=np.int32)
    symbols, lengths = _read_alphabet(reader, count)
    if len(symbols) == 1:
        reader.end()
        return np.full(count, symbols[0], dtype=np.int32)
    order, starts = _canonical(lengths)
    by_rank = lengths[order]
    short = int(np.count_nonzero(by_rank <= TABLE_BITS))
    table = np.zeros(1 << TABLE_BITS, dtype=np.uint32)
    entries = np.arange(short) << 5 | by_rank[:short]
    filled = np.repeat(entries, np.left_shift(1, TABLE_BITS - by_rank[:short]))
    table[: len(filled)] = filled
    # Where no word has a length, that length ends where the shorter ones do.
    widths = np.arange(MAX_LENGTH + 1)
    first = np.searchsorted(by_rank, widths, side="left")
    bounds = np.append(starts, 1 << MAX_LENGTH)
    ends = bounds[np.searchsorted(by_rank, widths, side="right")]
    ranks = first - (bounds[first] >> (MAX_LENGTH - widths))
    body = reader.take(reader.left)
    if 8 * len(body) > MAX_LENGTH * count + 7:
        msg = f"{len(body)} bytes of code words for {count} levels"
        raise BitstreamError(msg)
    out = np.empty(count, dtype=np.int32)
    values = symbols[order].astype(np.int32)
    bits = _read(to_words(body, ">"), 8 * len(body), table, ends, ranks, values, out)
    if bits < 0:
        msg = "the bits end before the last level"
        raise BitstreamError(msg)
    check_end(body, bits, ">")
    return out
