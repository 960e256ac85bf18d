"""Loops of quantisation by rate and distortion, in numba; they return as `quantise_loops` do.

Rates come from the live contexts (numbered as in `nnc_contexts`), as 2^-15 bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedcomp.coding.nnc_contexts import GREATER, GREATER_FLAGS, SIGN
from fedcomp.coding.nnc_engine import adapt, i64, inline, kernel, leading_zeros, u
from fedcomp.coding.quantise_loops import LARGEST, nearest

UNIT = 2.0**-15
REACH = 64


@inline
def _price(bin_: int, c: int, contexts: Any, cost: Any) -> int:
    """Return the cost of a bin in context c."""
    fast = i64(contexts[u(2 * c)])
    slow = i64(contexts[u(2 * c + 1)])
    s = ((fast & 255) << 4) + (slow & 4095)
    price: int = i64(cost[u(s >> 3 << 1 | bin_)])
    return price


@inline
def _see(bin_: int, c: int, contexts: Any, tab: Any) -> None:
    """Adapt context c to a bin."""
    fast = i64(contexts[u(2 * c)])
    slow = i64(contexts[u(2 * c + 1)])
    contexts[u(2 * c)], contexts[u(2 * c + 1)] = adapt(bin_, fast, slow, tab)


@inline
def _rate(size: int, minus: int, near: int, contexts: Any, cost: Any) -> float:
    """Return the bits of a level."""
    if size == 0:
        return _price(0, near, contexts, cost) * UNIT
    total = _price(1, near, contexts, cost) + _price(minus, SIGN + near, contexts, cost)
    for k in range(min(size, GREATER_FLAGS)):
        total += _price(i64(size > k + 1), GREATER + minus + 2 * k, contexts, cost)
    if size > GREATER_FLAGS:
        order = 63 - leading_zeros(size - GREATER_FLAGS)
        for k in range(order + 1):
            total += _price(i64(k < order), GREATER + 4 * GREATER_FLAGS + k, contexts, cost)
        total += order << 15
    return total * UNIT


@inline
def _code(size: int, minus: int, near: int, contexts: Any, tab: Any) -> int:
    """Let the contexts see a level; return its class."""
    _see(i64(size > 0), near, contexts, tab)
    if size == 0:
        return 0
    _see(minus, SIGN + near, contexts, tab)
    for k in range(min(size, GREATER_FLAGS)):
        _see(i64(size > k + 1), GREATER + minus + 2 * k, contexts, tab)
    if size > GREATER_FLAGS:
        order = 63 - leading_zeros(size - GREATER_FLAGS)
        for k in range(order + 1):
            _see(i64(k < order), GREATER + 4 * GREATER_FLAGS + k, contexts, tab)
    return 2 - minus


@kernel
def choose_nearest(
    values: Any,
    step: float,
    weight: float,
    levels: Any,
    contexts: Any,
    tab: Any,
    cost: Any,
) -> int:
    """Write the cheapest of 0, max(1, n − 1) and n for each value."""
    near = i64(0)
    for i in range(len(values)):
        x = np.float64(values[u(i)]) / step
        minus = i64(x < 0)
        x = abs(x)
        if not x < LARGEST:
            return i
        n = i64(nearest(x))
        size = i64(0)
        best = x * x + weight * _rate(0, minus, near, contexts, cost)
        q = max(i64(1), n - 1)
        while q <= max(i64(1), n):
            error = (x - q) * (x - q)
            if error < best:  # the rate could only add to it
                total = error + weight * _rate(q, minus, near, contexts, cost)
                if total < best:
                    best = total
                    size = q
            q += 1
        near = _code(size, minus, near, contexts, tab)
        levels[u(i)] = -size if minus else size
    return -1


@kernel
def choose_weighted(
    values: Any,
    step: float,
    importance: Any,
    weight: float,
    levels: Any,
    contexts: Any,
    tab: Any,
    cost: Any,
) -> int:
    """Write the cheapest level within three intervals of each value."""
    near = i64(0)
    single = i64(len(importance) == 1)
    for i in range(len(values)):
        x = np.float64(values[u(i)]) / step
        if not abs(x) < LARGEST - REACH:
            return i
        width = importance[u(i64(0) if single else i)] / step
        n = i64(nearest(x))
        error = (x - n) * 2.0 / width
        level = n
        best = error * error + weight * _rate(abs(n), i64(n < 0), near, contexts, cost)
        for side in range(3):  # below, above, and 0 alone
            move = i64(1) if side == 1 else i64(-1)
            q = i64(0) if side == 2 else n + move
            last = i64(0) if side == 2 else n + move * REACH
            while True:
                error = (x - q) * 2.0 / width
                # Farther away the error only grows, and no rate is below 0.
                if abs(error) > 6.0 or error * error >= best:
                    break
                rate = _rate(abs(q), i64(q < 0), near, contexts, cost)
                if error * error + weight * rate < best:
                    best = error * error + weight * rate
                    level = q
                if q == last:
                    break
                q += move
        near = _code(abs(level), i64(level < 0), near, contexts, tab)
        levels[u(i)] = level
    return -1
