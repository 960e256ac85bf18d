"""Loops of the uniform and of the dependent quantiser, in numba.

They return the place of a value that has no level in int32, or −1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedcomp.coding.nnc_engine import i64, inline, kernel, u

LARGEST = 2147483644.0  # |w| / Δ; three above it are still int32

# Lower predecessor of every state of the trellis, four bits each (the other one is 4 more), and
# whether the index on the way from it is odd.
BEFORE = 0x13132020
ODD_FIRST = 0b00111100


@inline
def nearest(x: float) -> float:
    """Round half away from zero; x + ½ would itself be rounded."""
    whole = np.trunc(x)
    rounded: float = whole + np.trunc(2.0 * (x - whole))
    return rounded


@kernel
def quantise_uniform(values: Any, step: float, levels: Any) -> int:
    """Write the level nearest to each value."""
    bad = i64(0)
    for i in range(len(values)):
        x = np.float64(values[u(i)]) / step
        bad |= i64(not abs(x) < LARGEST)
        levels[u(i)] = np.int32(nearest(x) if abs(x) < LARGEST else 0.0)
    if bad:
        for i in range(len(values)):
            if not abs(np.float64(values[u(i)]) / step) < LARGEST:
                return i
    return -1


@kernel
def dequantise(levels: Any, step: float, values: Any) -> None:
    """Write level times step."""
    for i in range(len(levels)):
        values[u(i)] = np.float32(np.float64(levels[u(i)]) * step)


@inline
def _errors(x: float) -> tuple[float, float, float, float]:
    """Return the squared errors of the four levels ≥ 1 around x ≥ 0, by level mod 4.

    Of any four, two are even and two odd, each with one even index k and one odd one.
    """
    first = max(i64(1), i64(x) - 1)
    d = x - np.float64(first)
    e0, e1, e2, e3 = d * d, (d - 1.0) * (d - 1.0), (d - 2.0) * (d - 2.0), (d - 3.0) * (d - 3.0)
    if first & 1:
        e0, e1, e2, e3 = e3, e0, e1, e2
    if first & 2:
        e0, e1, e2, e3 = e2, e3, e0, e1
    return e0, e1, e2, e3


@kernel
def quantise_dependent(values: Any, step: float, choices: Any, levels: Any) -> int:
    """Write the levels along the cheapest path of the trellis.

    `choices` keeps, per value and next state, which of its two predecessors won (bits 0 to 7);
    bits 8 and 9 tell whether 0 beats the other level of even index in even and in odd states.
    """
    far = 1e300
    c0, c1, c2, c3, c4, c5, c6, c7 = 0.0, far, far, far, far, far, far, far
    for i in range(len(values)):
        x = abs(np.float64(values[u(i)]) / step)
        if not x < LARGEST:
            return i
        e0, e1, e2, e3 = _errors(x)
        zero = x * x
        bits = (i64(zero <= e0) << 8) | (i64(zero <= e3) << 9)
        even0, odd0 = min(zero, e0), e2  # index even and odd in even states
        even1, odd1 = min(zero, e3), e1  # the same in odd states
        a0, b0 = c0 + even0, c4 + odd0
        a1, b1 = c2 + even0, c6 + odd0
        a2, b2 = c0 + odd0, c4 + even0
        a3, b3 = c2 + odd0, c6 + even0
        a4, b4 = c3 + odd1, c7 + even1
        a5, b5 = c1 + odd1, c5 + even1
        a6, b6 = c3 + even1, c7 + odd1
        a7, b7 = c1 + even1, c5 + odd1
        bits |= i64(b0 < a0) | i64(b1 < a1) << 1 | i64(b2 < a2) << 2 | i64(b3 < a3) << 3
        bits |= i64(b4 < a4) << 4 | i64(b5 < a5) << 5 | i64(b6 < a6) << 6 | i64(b7 < a7) << 7
        c0, c1, c2, c3 = min(a0, b0), min(a1, b1), min(a2, b2), min(a3, b3)
        c4, c5, c6, c7 = min(a4, b4), min(a5, b5), min(a6, b6), min(a7, b7)
        choices[u(i)] = bits
    state, least = i64(0), c0
    for other, cost in enumerate((c1, c2, c3, c4, c5, c6, c7)):
        if cost < least:
            state, least = i64(other + 1), cost
    for i in range(len(values) - 1, -1, -1):
        x = np.float64(values[u(i)]) / step
        bits = i64(choices[u(i)])
        second = bits >> state & 1
        before = (BEFORE >> (4 * state) & 3) + 4 * second
        odd = (ODD_FIRST >> state & 1) ^ second
        level = i64(0)
        if odd or not bits >> (8 + (before & 1)) & 1:
            first = max(i64(1), i64(abs(x)) - 1)
            wanted = (2 - (before & 1)) if odd else 3 * (before & 1)
            level = first + ((wanted - first) & 3)
            if x < 0:
                level = -level
        levels[u(i)] = level
        state = before
    return -1
