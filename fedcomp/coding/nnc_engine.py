"""Binary arithmetic coding of one bin, in numba (ISO/IEC 15938-17).

A coder is a tuple of four integers that stays in registers:
encoder (L, R, doublings not yet written, bytes written), L and R with 9 bits before the doublings;
decoder (value, R, bits known beyond the 9, bytes read), value and R with their 9 bits at the top of
63. Context c is two indices into `nnc_tables.transitions` (`tab`): its fast window is at 2c of
`contexts`, its slow one at 2c + 1. The arrays are passed one by one, for numba counts references to
the members of a tuple inside the loops.
Whatever indexes an array goes through `u`, which spares the test for negative indices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from fedcomp.coding.nnc_tables import FAST, RANGE

if TYPE_CHECKING:
    from collections.abc import Callable

    Coder = tuple[int, int, int, int]

Function = TypeVar("Function", bound="Callable[..., Any]")

ALIGN = 54
"""Places below the 9 bits of the decoder's R."""


# `_nrt` off: the loops allocate nothing, and counting references to their arguments at every bin
# would take them longer than the coding.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "boundscheck": False,
    "error_model": "numpy",
    "_nrt": False,
}


def kernel(function: Function) -> Function:
    """Compile a loop, with its machine code kept on disk and the interpreter lock released.

    Numba recompiles when the file of the loop changes, and not for its imports: after a change in
    this module or in the tables, remove `fedcomp/coding/__pycache__/*.nb?`: all loops there, those
    of the quantisers and of the plain coders too, take something from here.
    """
    compiled: Function = njit(cache=True, **OPTIONS)(function)
    return compiled


def inline(function: Function) -> Function:
    """Compile a step into the loops that use it."""
    compiled: Function = njit(forceinline=True, **OPTIONS)(function)
    return compiled


def _leading_zeros(_typing: Any, _value: Any) -> Any:
    """Count the leading zero bits of a positive int64."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], context.get_constant(types.boolean, True))

    return types.int64(types.int64), generate


leading_zeros: Any = intrinsic(_leading_zeros)


@inline
def u(index: int) -> Any:
    """Return an index that numba knows is not negative."""
    return np.uint64(index)


@inline
def i64(value: Any) -> Any:
    """Return the type of all arithmetic here; numba makes floats of mixed integers."""
    return np.int64(value)


@inline
def adapt(bin_: int, fast: int, slow: int, tab: Any) -> tuple[int, int]:
    """Return both windows after a bin."""
    return i64(tab[u(FAST + 2 * fast + bin_)]), i64(tab[u(2 * slow + bin_)])


@inline
def odds(fast: int, slow: int) -> int:
    """Return (s >> 7) + 32 of s = 16·a + b; from 32 on bin 1 is the more probable one."""
    return (((fast & 255) << 4) + (slow & 4095)) >> 7


@inline
def carry(out: Any, end: int) -> None:
    """Add one to the number that the bytes before `end` spell."""
    at = end - 1
    while out[u(at)] == 255:
        out[u(at)] = 0
        at -= 1
    out[u(at)] += np.uint8(1)


@inline
def flush(out: Any, coder: Coder) -> Coder:
    """Write 32 bits of L that only a carry can still change, once there are as many."""
    low, rng, count, end = coder
    if count < 32:
        return coder
    shift = count - 23
    if low >> (shift + 32):
        carry(out, end)
    word = low >> shift
    for k in range(4):
        out[u(end + k)] = word >> (24 - 8 * k) & 255
    return low & ((1 << shift) - 1), rng, count - 32, end + 4


@inline
def narrow(bin_: int, state: int, tab: Any, coder: Coder) -> Coder:
    """Code a bin: r = LPS(κ, R), R ← R − r; if improbable L ← L + R, R ← r; then R ≥ 256 again."""
    low, rng, count, end = coder
    less = i64(tab[u(RANGE + (state << 3) + (rng >> 5 & 7))])
    rest = rng - less
    improbable = (state >> 5) ^ bin_
    low += rest & -improbable
    rng = less if improbable else rest
    shift = leading_zeros(rng) - 55
    return low << shift, rng << shift, count + shift, end


@inline
def put(bin_: int, c: int, contexts: Any, tab: Any, out: Any, coder: Coder) -> Coder:
    """Code a bin in context c and adapt the context."""
    fast = i64(contexts[u(2 * c)])
    slow = i64(contexts[u(2 * c + 1)])
    contexts[u(2 * c)], contexts[u(2 * c + 1)] = adapt(bin_, fast, slow, tab)
    return flush(out, narrow(bin_, odds(fast, slow), tab, coder))


@inline
def put_bits(value: int, bits: int, out: Any, coder: Coder) -> Coder:
    """Code bits at even odds, the highest first: L ← 2L + R·bit."""
    while bits > 0:
        n = min(bits, 16)
        bits -= n
        low, rng, count, end = coder
        low = (low << n) + rng * (value >> bits & ((1 << n) - 1))
        coder = flush(out, (low, rng, count + n, end))
    return coder


@inline
def refill(data: Any, coder: Coder) -> Coder:
    """Append 32 bits of the payload, after its end zeros, unless bits are known beyond the 9.

    Half of an odd R needs the tenth bit, hence one bit and not none.
    """
    value, rng, spare, at = coder
    if spare > 0:
        return coder
    word = i64(0)
    if at + 4 <= len(data):
        word = (
            i64(data[u(at)]) << 24
            | i64(data[u(at + 1)]) << 16
            | i64(data[u(at + 2)]) << 8
            | i64(data[u(at + 3)])
        )
    else:
        for k in range(4):
            word <<= 8
            if at + k < len(data):
                word |= i64(data[u(at + k)])
    return value | word << (ALIGN - 32 - spare), rng, spare + 32, at + 4


@inline
def range_of_less(state: int, tab: Any, rng: int) -> int:
    """Return the range of the improbable bin, aligned like the decoder's R."""
    less: int = i64(tab[u(RANGE - 8 + (state << 3) + (rng >> (ALIGN + 5)))]) << ALIGN
    return less


@inline
def split(state: int, tab: Any, data: Any, coder: Coder) -> tuple[int, Coder]:
    """Decode a bin: the improbable one if the value is not below R − r; then R ≥ 256 again."""
    value, rng, spare, at = coder
    less = range_of_less(state, tab, rng)
    rest = rng - less
    improbable = ~((value - rest) >> 63)
    value -= rest & improbable
    rng = rest ^ ((rest ^ less) & improbable)
    shift = leading_zeros(rng) - 1
    coder = refill(data, (value << shift, rng << shift, spare - shift, at))
    return (state >> 5) ^ (improbable & 1), coder


@inline
def get(c: int, contexts: Any, tab: Any, data: Any, coder: Coder) -> tuple[int, Coder]:
    """Decode a bin in context c and adapt the context."""
    fast = i64(contexts[u(2 * c)])
    slow = i64(contexts[u(2 * c + 1)])
    bin_, coder = split(odds(fast, slow), tab, data, coder)
    contexts[u(2 * c)], contexts[u(2 * c + 1)] = adapt(bin_, fast, slow, tab)
    return bin_, coder


@inline
def get_bits(bits: int, data: Any, coder: Coder) -> tuple[int, Coder]:
    """Decode bits of even odds, the highest first."""
    result = i64(0)
    for _ in range(bits):
        value, rng, spare, at = coder
        half = rng >> 1
        bin_ = i64(value >= half)
        coder = refill(data, ((value - (half & -bin_)) << 1, rng, spare - 1, at))
        result = result << 1 | bin_
    return result, coder
