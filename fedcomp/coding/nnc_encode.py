"""Levels of a tensor to bins to bytes, in numba (ISO/IEC 15938-17).

`st` carries the coder from call to call: (L, R, doublings, bytes), then where `encode_body`
paused: row, position, class of the previous level, state of the quantiser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.nnc_contexts import (
    GREATER,
    SIGN,
    SIGN_BASE,
    SIGNIFICANT_BASE,
)
from fedcomp.coding.nnc_engine import (
    adapt,
    carry,
    flush,
    i64,
    inline,
    kernel,
    leading_zeros,
    narrow,
    odds,
    put,
    put_bits,
    u,
)
from fedcomp.coding.nnc_tables import PACKED_TRELLIS, REST, RUN

if TYPE_CHECKING:
    from fedcomp.coding.nnc_engine import Coder

DONE, FULL, BROKEN = 0, 1, 2


@inline
def _load(st: Any) -> Coder:
    return st[0], st[1], st[2], st[3]


@inline
def _save(st: Any, coder: Coder) -> None:
    st[0], st[1], st[2], st[3] = coder


@kernel
def encode_bits(value: int, bits: int, out: Any, st: Any) -> None:
    """Append bits of even odds."""
    _save(st, put_bits(value, bits, out, _load(st)))


@kernel
def encode_rows(skip: Any, c: int, contexts: Any, tab: Any, out: Any, st: Any) -> None:
    """Append one bin per row, all in context c."""
    coder = _load(st)
    for row in range(len(skip)):
        coder = put(i64(skip[u(row)]), c, contexts, tab, out, coder)
    _save(st, coder)


@kernel
def encode_sets(used: Any, sets: Any, c: int, contexts: Any, tab: Any, out: Any, st: Any) -> None:
    """Append the initialisation set of every used context: a bin, then 3 bits unless it is 0."""
    coder = _load(st)
    for k in range(len(used)):
        which = i64(sets[u(used[u(k)])])
        coder = put(i64(which > 0), c, contexts, tab, out, coder)
        if which > 0:
            coder = put_bits(which - 1, 3, out, coder)
    _save(st, coder)


@kernel
def encode_end(out: Any, st: Any) -> None:
    """Append the terminating bin, R ← R − 2, L ← (L + R)·2^7, and the stop bit."""
    low, rng, count, end = _load(st)
    low, rng, count, end = flush(out, ((low + rng - 2) << 7, 2 << 7, count + 7, end))
    # What is left are the count + 1 bits of L above its lowest 8; then a single 1.
    word = (low >> 8 << 1 | 1) << (38 - count)
    if word >> 40:
        carry(out, end)
    for k in range((count + 9) // 8):
        out[u(end)] = word >> (32 - 8 * k) & 255
        end += 1
    st[3] = end


@inline
def _put_zeros(
    levels: Any, i: int, stop: int, limit: int, contexts: Any, tab: Any, out: Any, coder: Coder
) -> tuple[int, Coder]:
    """Code zeros after a zero, whose context and neighbour never change.

    Once both windows are at rest only R moves, and RUN zeros are one look-up.
    """
    fast = i64(contexts[u(0)])
    slow = i64(contexts[u(1)])
    while i < stop and levels[u(i)] == 0 and coder[3] <= limit:
        state = odds(fast, slow)
        coder = flush(out, narrow(0, state, tab, coder))
        i += 1
        after = adapt(0, fast, slow, tab)
        if after[0] == fast and after[1] == slow and state < 32:
            while i + RUN <= stop and coder[3] <= limit:
                any_ = np.int32(0)
                for k in range(RUN):
                    any_ |= levels[u(i + k)]
                if any_ != 0:
                    break
                low, rng, count, end = coder
                word = i64(tab[u(REST - 256 + (state << 8) + rng)])
                shift = word >> 9
                coder = flush(out, (low << shift, word & 511, count + shift, end))
                i += RUN
        fast, slow = after
    contexts[u(0)] = fast
    contexts[u(1)] = slow
    return i, coder


@inline
def _put_rest(rest: int, c: int, contexts: Any, tab: Any, out: Any, coder: Coder) -> Coder:
    """Code rest ≥ 1 by exponential Golomb: ⌊log2 rest⌋ in unary, then the bits below its top."""
    order = 63 - leading_zeros(rest)
    for k in range(order + 1):
        coder = put(i64(k < order), c + k, contexts, tab, out, coder)
    return put_bits(rest - (1 << order), order, out, coder)


@kernel
def encode_body(
    levels: Any,
    base: Any,
    dependent: Any,
    skip: Any,
    width: int,
    flags: int,
    contexts: Any,
    tab: Any,
    out: Any,
    limit: int,
    st: Any,
) -> int:
    """Code the levels of all rows that are not skipped; pause (FULL) beyond `limit` bytes.

    `base` and `dependent` are None where the tool is off: the loop is compiled for either case.
    """
    coder = _load(st)
    row, i, near, state = st[4], st[5], st[6], st[7]
    status = DONE
    while row < len(skip) and status == DONE:
        stop = (row + 1) * width
        if skip[u(row)]:
            if dependent is not None:
                for _ in range(width & 3):  # zeros walk the trellis in circles of 1, 2 or 4
                    state = PACKED_TRELLIS >> (8 * state) & 7
            i = stop
        while i < stop:
            if coder[3] > limit:
                status = FULL
                break
            level = i64(levels[u(i)])
            if base is None and dependent is None and level == 0 and near == 0:
                i, coder = _put_zeros(levels, i, stop, limit, contexts, tab, out, coder)
                continue
            size = abs(level)
            c = 3 * state + near
            past = i64(0)
            if base is not None:
                past = i64(base[u(i)])
                if past != 0:
                    c = SIGNIFICANT_BASE + 2 * state + (abs(past) > 1)
            if dependent is not None:
                size += state & (level != 0)
                if size & 1:
                    status = BROKEN
                    break
                size >>= 1
                state = PACKED_TRELLIS >> (8 * state + 4 * (size & 1)) & 7
            i += 1
            if size == 0:
                coder = put(0, c, contexts, tab, out, coder)
                near = 0
                continue
            coder = put(1, c, contexts, tab, out, coder)
            minus = i64(level < 0)
            c = SIGN + near
            greater = GREATER + minus
            if base is not None and past != 0:
                c = SIGN_BASE + (past > 0)
                greater = GREATER + 2 * flags
            coder = put(minus, c, contexts, tab, out, coder)
            near = 2 - minus
            for k in range(min(size, flags)):
                c = greater + 2 * k
                if base is not None and past != 0:
                    c += abs(past) < k
                coder = put(i64(size > k + 1), c, contexts, tab, out, coder)
            if size > flags:
                coder = _put_rest(size - flags, GREATER + 4 * flags, contexts, tab, out, coder)
        if status == DONE:
            row += 1
    _save(st, coder)
    st[4], st[5], st[6], st[7] = row, i, near, state
    return status
