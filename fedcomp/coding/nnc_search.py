"""Choice of the initialisation set of every context by a dry run, in numba (ISO/IEC 15938-17).

Each context is followed by one estimator per set, which adds up the cost of the context's bins:
set = argmin_i Σ cost(s_i, bin) + 3 bits · [i ≠ 0]. Estimators of equal rates soon reach equal
states; from then on the cheaper one stands for both, and the choice is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.nnc_checks import read_only
from fedcomp.coding.nnc_contexts import (
    GREATER,
    SIGN,
    SIGN_BASE,
    SIGNIFICANT_BASE,
    context_count,
)
from fedcomp.coding.nnc_engine import adapt, i64, inline, kernel, leading_zeros, u
from fedcomp.coding.nnc_tables import INIT_SETS, PACKED_TRELLIS, costs, starts, transitions

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 8192
SETS = len(INIT_SETS)
PENALTY = 3 << 15


@inline
def _note(bin_: int, c: int, bins: Any, counts: Any) -> None:
    """Append a bin to those of context c."""
    at = i64(counts[u(c)])
    counts[u(c)] = at + 1
    bins[u(c), u(at)] = bin_


@kernel
def _collect(
    levels: Any,
    base: Any,
    dependent: Any,
    doubled: bool,
    skip: Any,
    width: int,
    flags: int,
    bins: Any,
    counts: Any,
    st: Any,
) -> None:
    """Sort the bins of the next BLOCK levels by context; st is row, position, class and state."""
    row, i, near, state = st[0], st[1], st[2], st[3]
    left = BLOCK
    while row < len(skip) and left > 0:
        stop = (row + 1) * width
        if skip[u(row)]:
            if dependent is not None:
                for _ in range(width & 3):
                    state = PACKED_TRELLIS >> (8 * state) & 7
            i = stop
        pause = min(stop, i + left)
        left -= pause - i
        while i < pause:
            level = i64(levels[u(i)])
            size = abs(level)
            c = 3 * state + near
            past = i64(0)
            if base is not None:
                past = i64(base[u(i)])
                if past != 0:
                    c = SIGNIFICANT_BASE + 2 * state + (abs(past) > 1)
            if dependent is not None:
                index = (size + (state & 1)) >> 1
                state = PACKED_TRELLIS >> (8 * state + 4 * (index & 1)) & 7
                if not doubled:
                    size = index
            i += 1
            _note(i64(size > 0), c, bins, counts)
            if size == 0:
                near = 0
                continue
            minus = i64(level < 0)
            c = SIGN + near
            greater = GREATER + minus
            if base is not None and past != 0:
                c = SIGN_BASE + (past > 0)
                greater = GREATER + 2 * flags
            _note(minus, c, bins, counts)
            near = 2 - minus
            for k in range(min(size, flags)):
                c = greater + 2 * k
                if base is not None and past != 0:
                    c += abs(past) < k
                _note(i64(size > k + 1), c, bins, counts)
            if size > flags:
                order = 63 - leading_zeros(size - flags)
                for k in range(order + 1):
                    _note(i64(k < order), GREATER + 4 * flags + k, bins, counts)
        if i == stop:
            row += 1
    st[0], st[1], st[2], st[3] = row, i, near, state


@inline
def _advance(bin_: int, estimator: Any, tab: Any, cost: Any) -> Any:
    """Return (fast window, slow window, score) after a bin."""
    x, y, score = estimator
    s = ((x & 255) << 4) + (y & 4095)
    score += i64(cost[u(s >> 3 << 1 | bin_)])
    x, y = adapt(bin_, x, y, tab)
    return x, y, score


@inline
def _get(t: int, fast: Any, slow: Any, score: Any) -> Any:
    return i64(fast[u(t)]), i64(slow[u(t)]), i64(score[u(t)])


@inline
def _set(t: int, estimator: Any, fast: Any, slow: Any, score: Any) -> None:
    fast[u(t)], slow[u(t)], score[u(t)] = estimator


@kernel
def _follow(
    bins: Any, counts: Any, tab: Any, cost: Any, fast: Any, slow: Any, score: Any, live: Any
) -> None:
    """Lead the live estimators of every context through its bins and join equal ones.

    Five at a time, whose states still fit into registers; the rest one by one.
    """
    for c in range(len(counts)):
        first = SETS * c
        end = first + live[u(c)]
        count = i64(counts[u(c)])
        t = first
        while count > 0 and t + 5 <= end:
            e0 = _get(t, fast, slow, score)
            e1 = _get(t + 1, fast, slow, score)
            e2 = _get(t + 2, fast, slow, score)
            e3 = _get(t + 3, fast, slow, score)
            e4 = _get(t + 4, fast, slow, score)
            for k in range(count):
                bin_ = i64(bins[u(c), u(k)])
                e0 = _advance(bin_, e0, tab, cost)
                e1 = _advance(bin_, e1, tab, cost)
                e2 = _advance(bin_, e2, tab, cost)
                e3 = _advance(bin_, e3, tab, cost)
                e4 = _advance(bin_, e4, tab, cost)
            _set(t, e0, fast, slow, score)
            _set(t + 1, e1, fast, slow, score)
            _set(t + 2, e2, fast, slow, score)
            _set(t + 3, e3, fast, slow, score)
            _set(t + 4, e4, fast, slow, score)
            t += 5
        while count > 0 and t < end:
            e0 = _get(t, fast, slow, score)
            for k in range(count):
                e0 = _advance(i64(bins[u(c), u(k)]), e0, tab, cost)
            _set(t, e0, fast, slow, score)
            t += 1
        counts[u(c)] = 0
        t = first
        while t < end:
            other = t + 1
            while other < end:
                if fast[u(t)] == fast[u(other)] and slow[u(t)] == slow[u(other)]:
                    end -= 1
                    score[u(t)] = min(score[u(t)], score[u(other)])
                    fast[u(other)] = fast[u(end)]
                    slow[u(other)] = slow[u(end)]
                    score[u(other)] = score[u(end)]
                else:
                    other += 1
            t += 1
        live[u(c)] = end - first


@kernel
def _follow_all(
    levels: Any,
    base: Any,
    dependent: Any,
    doubled: bool,
    skip: Any,
    width: int,
    flags: int,
    bins: Any,
    counts: Any,
    st: Any,
    tab: Any,
    cost: Any,
    fast: Any,
    slow: Any,
    score: Any,
    live: Any,
) -> None:
    """Lead all estimators through the tensor, a block after the other."""
    while st[0] < len(skip):
        _collect(levels, base, dependent, doubled, skip, width, flags, bins, counts, st)
        _follow(bins, counts, tab, cost, fast, slow, score, live)


def choose_sets(
    levels: NDArray[np.int32],
    base: NDArray[np.int32] | None,
    dependent: int | None,
    doubled: bool,
    skip: NDArray[np.uint8],
    width: int,
    flags: int,
) -> NDArray[np.uint8]:
    """Return the cheapest set of every context.

    `doubled` takes the bins of a dependent quantiser's r = 2k − sgn(k)·(state & 1) in place of
    those of its index k, as the reference software does: its choice, at a few more bytes.
    """
    contexts = context_count(flags)
    bins = np.empty((contexts, min(BLOCK, levels.size)), np.uint8)
    fast = np.tile(starts()[:, 0], contexts)
    slow = np.tile(starts()[:, 1], contexts)
    # A score is 16·cost + set: the least one also names the first set of those at equal cost.
    ids = np.arange(SETS)
    score = np.tile(ids + np.where(ids > 0, 16 * PENALTY, 0), contexts)
    live = np.full(contexts, SETS)
    cost = (16 * costs()).astype(np.int32)
    _follow_all(
        *(levels, base, dependent, doubled, skip, width, flags),
        *(bins, np.zeros(contexts, np.int64), np.zeros(4, np.int64), read_only(transitions())),
        *(cost, fast, slow, score, live),
    )
    done = ids >= live[:, None]
    least = np.where(done, np.iinfo(np.int64).max, score.reshape(-1, SETS)).min(axis=1)
    sets: NDArray[np.uint8] = (least & 15).astype(np.uint8)
    return sets
