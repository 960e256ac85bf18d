"""Bytes to bins to levels of a tensor, in numba (ISO/IEC 15938-17).

`st` carries the coder from call to call: (value, R, bits known in advance, bytes read). Bytes
after the end read as zeros; `decode_body` and `decode_end` notice that it happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedcomp.coding.nnc_contexts import (
    GREATER,
    PREFIXES,
    SIGN,
    SIGN_BASE,
    SIGNIFICANT_BASE,
)
from fedcomp.coding.nnc_engine import (
    ALIGN,
    adapt,
    get,
    get_bits,
    i64,
    inline,
    kernel,
    odds,
    range_of_less,
    refill,
    split,
    u,
)
from fedcomp.coding.nnc_tables import PACKED_TRELLIS, REST, RUN

if TYPE_CHECKING:
    from fedcomp.coding.nnc_engine import Coder

DONE, TRUNCATED, PREFIX, RANGE, UNTERMINATED, TRAILING, STOP_BIT = range(7)
LARGEST = 2**31 - 1


@inline
def _load(st: Any) -> Coder:
    return st[0], st[1], st[2], st[3]


@inline
def _save(st: Any, coder: Coder) -> None:
    st[0], st[1], st[2], st[3] = coder


@inline
def _exhausted(data: Any, coder: Coder) -> bool:
    """Tell whether more bits were needed than there are, so that no zeros are decoded for ever."""
    over: bool = coder[3] > len(data) + 4
    return over


@kernel
def decode_start(data: Any, st: Any) -> None:
    """Read the first 9 bits, and more in advance; R = 510."""
    _save(st, refill(data, (i64(0), i64(510 << ALIGN), i64(-9), i64(0))))


@kernel
def decode_bits(bits: int, data: Any, st: Any) -> int:
    """Return the value of bits of even odds."""
    value, coder = get_bits(bits, data, _load(st))
    _save(st, coder)
    return value


@kernel
def decode_rows(skip: Any, c: int, contexts: Any, tab: Any, data: Any, st: Any) -> int:
    """Fill `skip` with one bin per row, all in context c."""
    coder = _load(st)
    for row in range(len(skip)):
        bin_, coder = get(c, contexts, tab, data, coder)
        skip[u(row)] = bin_
        if _exhausted(data, coder):
            return TRUNCATED
    _save(st, coder)
    return DONE


@kernel
def decode_sets(used: Any, sets: Any, c: int, contexts: Any, tab: Any, data: Any, st: Any) -> None:
    """Read the initialisation set of every used context."""
    coder = _load(st)
    for k in range(len(used)):
        which, coder = get(c, contexts, tab, data, coder)
        if which:
            low, coder = get_bits(3, data, coder)
            which += low
        sets[u(used[u(k)])] = which
    _save(st, coder)


@kernel
def decode_end(data: Any, st: Any) -> int:
    """Check the terminating bin and that the last bit read is the stop bit of the last byte."""
    value, rng, spare, at = _load(st)
    bits = 8 * at - spare
    if bits > 8 * len(data):
        return TRUNCATED
    if value < rng - (2 << ALIGN):
        return UNTERMINATED
    if bits <= 8 * len(data) - 8:
        return TRAILING
    if (i64(data[u(len(data) - 1)]) << (bits - 1 & 7)) & 255 != 128:
        return STOP_BIT
    return DONE


@inline
def _get_zeros(
    i: int, stop: int, contexts: Any, tab: Any, data: Any, coder: Coder
) -> tuple[int, int, Coder]:
    """Decode significance bins after a zero up to the first 1; return it and its place.

    Once both windows are at rest, RUN zeros are one look-up: they are there if the value is below
    the range that is left after them.
    """
    fast = i64(contexts[u(0)])
    slow = i64(contexts[u(1)])
    bin_ = i64(0)
    while i < stop and not _exhausted(data, coder):
        state = odds(fast, slow)
        value, rng, spare, at = coder
        rest = rng - range_of_less(state, tab, rng)
        if state >= 32 or value >= rest:
            bin_, coder = split(state, tab, data, coder)
            fast, slow = adapt(bin_, fast, slow, tab)
            if bin_:
                break
            i += 1
            continue
        shift = 1 - (rest >> (ALIGN + 8))
        coder = refill(data, (value << shift, rest << shift, spare - shift, at))
        i += 1
        before = (fast, slow)
        fast, slow = adapt(0, fast, slow, tab)
        if before[0] == fast and before[1] == slow:
            while i + RUN <= stop and not _exhausted(data, coder):
                value, rng, spare, at = coder
                word = i64(tab[u(REST - 256 + (state << 8) + (rng >> ALIGN))])
                shift = word >> 9
                rng = (word & 511) << ALIGN
                if value >= rng >> shift:
                    break
                coder = refill(data, (value << shift, rng, spare - shift, at))
                i += RUN
    contexts[u(0)] = fast
    contexts[u(1)] = slow
    return bin_, i, coder


@inline
def _get_rest(c: int, contexts: Any, tab: Any, data: Any, coder: Coder) -> tuple[int, Coder]:
    """Decode a number ≥ 1 by exponential Golomb, or 0 if its prefix has no end."""
    order = i64(0)
    while order < PREFIXES:
        bin_, coder = get(c + order, contexts, tab, data, coder)
        if bin_ == 0:
            break
        order += 1
    if order == PREFIXES:
        return i64(0), coder
    low, coder = get_bits(order, data, coder)
    return (1 << order) + low, coder


@kernel
def decode_body(
    levels: Any,
    base: Any,
    dependent: Any,
    skip: Any,
    width: int,
    flags: int,
    contexts: Any,
    tab: Any,
    data: Any,
    st: Any,
) -> int:
    """Write the levels that are not 0 into `levels`; st[4] is the place of an error.

    `base` and `dependent` are None where the tool is off: the loop is compiled for either case.
    """
    coder = _load(st)
    near, state, past = i64(0), i64(0), i64(0)
    for row in range(len(skip)):
        i = row * width
        stop = i + width
        if skip[u(row)]:
            if dependent is not None:
                for _ in range(width & 3):  # zeros walk the trellis in circles of 1, 2 or 4
                    state = PACKED_TRELLIS >> (8 * state) & 7
            i = stop
        while i < stop:
            if base is None and dependent is None and near == 0:
                bin_, i, coder = _get_zeros(i, stop, contexts, tab, data, coder)
            else:
                c = 3 * state + near
                if base is not None:
                    past = i64(base[u(i)])
                    if past != 0:
                        c = SIGNIFICANT_BASE + 2 * state + (abs(past) > 1)
                bin_, coder = get(c, contexts, tab, data, coder)
            if _exhausted(data, coder):
                st[4] = i
                return TRUNCATED
            if bin_ == 0:
                near = 0
                i += 1
                if dependent is not None:
                    state = PACKED_TRELLIS >> (8 * state) & 7
                continue
            c = SIGN + near
            if base is not None and past != 0:
                c = SIGN_BASE + (past > 0)
            minus, coder = get(c, contexts, tab, data, coder)
            near = 2 - minus
            greater = GREATER + minus
            if base is not None and past != 0:
                greater = GREATER + 2 * flags
            size = i64(1)
            for k in range(flags):
                c = greater + 2 * k
                if base is not None and past != 0:
                    c += abs(past) < k
                bin_, coder = get(c, contexts, tab, data, coder)
                if bin_ == 0:
                    break
                size += 1
            if size > flags:
                rest, coder = _get_rest(GREATER + 4 * flags, contexts, tab, data, coder)
                if rest == 0:
                    st[4] = i
                    return PREFIX
                size = flags + rest
            if dependent is not None:
                after = PACKED_TRELLIS >> (8 * state + 4 * (size & 1)) & 7
                size = 2 * size - (state & 1)
                state = after
            if size > LARGEST + minus:
                st[4] = i
                return RANGE
            levels[u(i)] = (size ^ -minus) + minus
            i += 1
    _save(st, coder)
    return DONE
