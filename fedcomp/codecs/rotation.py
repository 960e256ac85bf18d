"""A random rotation that both ends can repeat: any length, no padding, O(n log n).

    R = H·D·P·H·D·P·H·D      or H·D·H·D in a block as long as a power of two

D flips random signs, H is the Walsh-Hadamard transform divided by its norm, P a permutation.  H·D
alone makes equal magnitudes of a weight far above the others, and then their quantised form says
nothing of these, whatever D is.  H·D·H·D makes nearly normal values of any 64 weights or more.

A vector is cut into blocks of 2^16 weights, the last one longer by what is left.  H needs powers of
two: in a block of 108 it acts on 64, 32, 8 and 4 weights apart, and P, which deals them out in
strides round and round the block, spreads each of these parts over all of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.kernels import late_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.tensors import Array

BLOCK = 2**16

GOLDEN = 618_033_989
"""The golden section of 10^9."""


def rotated(flat: Array, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return R·w for each block: as long as w, of the same norm; |w| is to be below 2^100.

    Examples
    --------
    >>> values = rotated(np.eye(1, 1000)[0], np.random.default_rng(1))
    >>> bool(np.abs(values).max() < 0.15), round(float(np.square(values).sum()), 6)
    (True, 1.0)
    """
    out = np.array(flat, np.float32)
    for block in blocks(out.size):
        part = out[block]
        for signs in _signs(part.size, generator):
            if signs is not None:
                _flip(part.view(np.uint32), signs)
                _hadamard(part)
            else:
                _spread(part.copy(), stride(part.size), part)
    return out


def unrotated(flat: Array, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return what `rotated` made this of, up to rounding; the generator starts where it did."""
    out = np.array(flat, np.float32)
    for block in blocks(out.size):
        part = out[block]
        for signs in reversed(_signs(part.size, generator)):
            if signs is not None:
                _hadamard(part)
                _flip(part.view(np.uint32), signs)
            else:
                _gather(part.copy(), stride(part.size), part)
    return out


def blocks(size: int) -> list[slice]:
    """Return the parts of a vector that are rotated apart, one at least.

    Examples
    --------
    >>> blocks(140_000)
    [slice(0, 65536, None), slice(65536, 140000, None)]
    """
    starts = [*range(0, size - BLOCK + 1, BLOCK)] or [0]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], size], strict=True)]


def stride(size: int) -> int:
    """Return s of P, which moves i to i·s mod n: prime to n and near its golden section.

    So neighbours are spread evenly, however many of them are taken.

    Examples
    --------
    >>> stride(108), [i * stride(5) % 5 for i in range(5)]
    (67, [0, 3, 1, 4, 2])
    """
    step = max(size * GOLDEN // 10**9, 1)
    while math.gcd(step, size) > 1:
        step += 1
    return step


def _signs(size: int, generator: np.random.Generator) -> list[NDArray[np.uint64] | None]:
    """Return the bits of each D, and None for each P, in the order of `rotated`."""
    words = -(-size // 64)
    passes = 2 if size & (size - 1) == 0 else 3
    drawn = np.asarray(generator.bit_generator.random_raw(passes * words), np.uint64)
    first, *others = drawn.reshape(passes, words)
    return [first, *others] if passes == 2 else [first, None, others[0], None, others[1]]


@late_kernel
def _flip(values: Any, words: Any) -> None:
    """Flip the sign, the highest bit of 32, of values whose bit is set."""
    whole = len(values) >> 6
    for k in range(whole):
        word = words[np.uint64(k)]
        for i in range(64):
            bit = np.uint32(word >> np.uint64(i) & np.uint64(1))
            values[np.uint64(k * 64 + i)] ^= bit << np.uint32(31)
    for i in range(len(values) & 63):
        bit = np.uint32(words[np.uint64(whole)] >> np.uint64(i) & np.uint64(1))
        values[np.uint64(whole * 64 + i)] ^= bit << np.uint32(31)


@late_kernel
def _hadamard(values: Any) -> None:
    """Transform the largest power of two of values, then that of what is left, and so on."""
    two = np.uint64(2)
    total = np.uint64(len(values))
    at = np.uint64(0)
    while at < total:
        size = np.uint64(1)
        while two * size <= total - at:
            size *= two
        end = at + size
        scale = np.float32(np.sqrt(1 / size))
        for k in range(size):
            values[at + np.uint64(k)] *= scale
        half = np.uint64(1)
        while half < size:
            start = at
            while start < end:
                for k in range(half):
                    i = start + np.uint64(k)
                    a, b = values[i], values[i + half]
                    values[i], values[i + half] = a + b, a - b
                start += two * half
            half *= two
        at = end


@late_kernel
def _spread(values: Any, step: int, out: Any) -> None:
    """Set out[i·step mod n] = values[i]."""
    at = 0
    for i in range(len(values)):
        out[np.uint64(at)] = values[np.uint64(i)]
        at += step
        if at >= len(values):
            at -= len(values)


@late_kernel
def _gather(values: Any, step: int, out: Any) -> None:
    """Set out[i] = values[i·step mod n]."""
    at = 0
    for i in range(len(values)):
        out[np.uint64(i)] = values[np.uint64(at)]
        at += step
        if at >= len(values):
            at -= len(values)
