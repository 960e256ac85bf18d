"""Golomb code of sparse levels (STC: Sattler et al., TNNLS 2020, arXiv:1903.02891; Golomb 1966).

The runs of zeros before the non-zeros are coded as Rice codes: run ⟫ b zeros, a one, b low bits.
Then comes the sign, and where some |v| > 1 the exponential Golomb code of order k of |v| − 1
(Teuhola 1978): with x = |v| − 1 + 2^k of n + 1 bits, n − k zeros, a one, the n low bits of x.
Head: number of non-zeros, then unless it is 0 one byte b and one byte 0 (all |v| = 1) or 1 + k.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.bits import bytes_for, check_end, from_words, reader_of, to_words
from fedcomp.coding.kernels import late_kernel
from fedcomp.coding.nnc_checks import checked_levels
from fedcomp.errors import BitstreamError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_RICE = 32
MAX_ORDER = 31
MOST_BITS = 1 + (MAX_RICE + 1) + 1 + 64
"""No encoder writes more bits for a level: zeros of a run, rest of the run, sign, magnitude."""

PROBLEMS = (
    "",
    "the bits end before the last non-zero",
    "a run of zeros is longer than what is left of the tensor",
    "a level lies beyond int32",
)


def rice_parameter(density: float) -> int:
    """Return STC's b* = 1 + ⌊log2(ln(φ − 1) / ln(1 − p))⌋, φ = (1 + √5)/2, and 0 where it is less.

    Examples
    --------
    >>> rice_parameter(1 / 400), rice_parameter(0.01), rice_parameter(0.7)
    (8, 6, 0)
    """
    if density >= 1:
        return 0
    ratio = math.log((math.sqrt(5) - 1) / 2) / math.log1p(-density)
    return min(max(1 + math.floor(math.log2(ratio)), 0), MAX_RICE)


@late_kernel
def _survey(levels: Any, found: Any) -> None:
    """Find the number of non-zeros and the sum of their |v| − 1."""
    nonzeros = 0
    excess = 0
    for i in range(len(levels)):
        value = np.int64(levels[i])
        nonzeros += value != 0
        excess += abs(value) - (value != 0)
    found[0] = nonzeros
    found[1] = excess


@late_kernel
def _measure(levels: Any, b: int, order: int) -> Any:
    """Count the bits that `_write` writes."""
    bits = 0
    last = -1
    for i in range(len(levels)):
        if levels[i] == 0:
            continue
        bits += ((i - last - 1) >> b) + b + 2
        last = i
        if order >= 0:
            x = abs(np.int64(levels[i])) - 1 + (1 << order)
            n = order
            while x >> (n + 1):
                n += 1
            bits += 2 * n + 1 - order
    return bits


@late_kernel
def _write(levels: Any, b: int, order: int, words: Any) -> None:
    """Write the non-zeros from the lowest bit on into words of zeros; order −1: only signs."""
    bit = 0
    last = -1
    for i in range(len(levels)):
        value = np.int64(levels[i])
        if value == 0:
            continue
        run = i - last - 1
        last = i
        code: Any
        for part in range(3 if order >= 0 else 2):
            if part == 0:
                bit += run >> b
                size = b + 1
                code = (run & ((1 << b) - 1)) << 1 | 1
            elif part == 1:
                size = 1
                code = np.int64(value < 0)
            else:
                x = abs(value) - 1 + (1 << order)
                n = order
                while x >> (n + 1):
                    n += 1
                bit += n - order
                size = n + 1
                code = (x & ((1 << n) - 1)) << 1 | 1
            at = np.uint64(bit >> 5)
            pair = np.uint64(code) << np.uint64(bit & 31)
            words[at] |= np.uint32(pair)
            words[at + np.uint64(1)] |= np.uint32(pair >> np.uint64(32))
            bit += size


@late_kernel
def _read(words: Any, total: int, nonzeros: int, b: int, order: int, out: Any) -> Any:
    """Read the non-zeros into zeros; return which of `PROBLEMS` and how many bits were read.

    Words are read only where `bit` ≤ `total`, and the next one with them: `to_words` has both.
    """
    bit = 0
    at: Any = -1
    run: Any
    value: Any
    for _ in range(nonzeros):
        run = 0
        high = 0
        n = 0
        value = 0
        for part in range(3 if order >= 0 else 2):
            if part != 1:
                zeros = 0
                while bit < total and not words[np.uint64(bit >> 5)] >> np.uint32(bit & 31) & 1:
                    zeros += 1
                    bit += 1
                bit += 1
            if part == 0:
                high = zeros
                size = b
            elif part == 1:
                size = 1
            else:
                n = zeros + order
                if n > 31:
                    return 3, bit
                size = n
            if bit + size > total:
                return 1, bit
            where = np.uint64(bit >> 5)
            pair = np.uint64(words[where]) | np.uint64(words[where + np.uint64(1)]) << np.uint64(32)
            code = np.int64(pair >> np.uint64(bit & 31)) & ((1 << size) - 1)
            bit += size
            if part == 0:
                if high > (len(out) >> b):
                    return 2, bit
                run = (high << b) + code
                if run >= len(out) - at - 1:
                    return 2, bit
                at += run + 1
            elif part == 1:
                value = 1 - 2 * code
            else:
                value *= (1 << n) + code - (1 << order) + 1
        if value > 2147483647 or value < -2147483648:
            return 3, bit
        out[np.uint64(at)] = value
    return 0, bit


def encode(levels: NDArray[Any]) -> bytes:
    """Return levels as runs of zeros, signs and magnitudes.

    Examples
    --------
    >>> encode(np.array([0, 0, 0, 1, 0, 0, 0, 0, -1, 0])).hex()
    '0201004601'
    """
    flat = checked_levels(levels)
    if not flat.size:
        return b""
    found = np.zeros(2, dtype=np.int64)
    _survey(flat, found)
    nonzeros, excess = map(int, found)
    head = nonzeros.to_bytes(bytes_for(flat.size), "little")
    if not nonzeros:
        return head
    b = rice_parameter((nonzeros + 1) / (flat.size + 1))
    # The best order lies close to the logarithm of the mean excess.
    middle = (excess // nonzeros).bit_length()
    orders = range(max(middle - 2, 0), min(middle, MAX_ORDER) + 1) if excess else (-1,)
    bits, order = min((int(_measure(flat, b, order)), order) for order in orders)
    words = np.zeros(bits // 32 + 2, dtype=np.uint32)
    _write(flat, b, order, words)
    return head + bytes([b, order + 1]) + from_words(words, bits, "<")


def decode(data: bytes | memoryview, count: int) -> NDArray[np.int32]:
    """Return `count` levels.

    Examples
    --------
    >>> decode(bytes.fromhex("0201004601"), 10)
    array([ 0,  0,  0,  1,  0,  0,  0,  0, -1,  0], dtype=int32)
    """
    reader = reader_of(data, count)
    if not count:
        return np.empty(0, dtype=np.int32)
    nonzeros = reader.uint(bytes_for(count))
    if nonzeros > count:
        msg = f"{nonzeros} of {count} levels are said not to be zero"
        raise BitstreamError(msg)
    if not nonzeros:
        reader.end()
        return np.zeros(count, dtype=np.int32)
    b, order = reader.uint(1), reader.uint(1) - 1
    body = reader.take(reader.left)
    if b > MAX_RICE or order > MAX_ORDER or 8 * len(body) > MOST_BITS * count + 7:
        msg = f"{len(body)} bytes with Rice parameter {b} and order {order} are no Golomb code"
        raise BitstreamError(msg)
    out = np.zeros(count, dtype=np.int32)
    problem, bits = _read(to_words(body, "<"), 8 * len(body), nonzeros, b, order, out)
    if problem:
        raise BitstreamError(PROBLEMS[problem])
    check_end(body, bits, "<")
    return out
