"""Even levels that span a tensor in few bits, one of them 0.

    w_k = k·Δ,  Δ = Q(|w|) / (2^(b−1) − 1),  k = −2^(b−1) … 2^(b−1) − 1, or one up

Steps are those of the standard's finest scale (`STEP_DENSITY`), 8 significant bits: every level
times its step is exact in float32, so that a tensor tells its grid, and a grid fits a stream of
ISO/IEC 15938-17.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.codecs.steps import single
from fedcomp.coding import quantise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.tensors import Array

STEP_DENSITY = 7

_SAMPLE = 4096
_MANTISSA = 24


class Grid(NamedTuple):
    """Levels from `low` to `high`, both included, times a step; step 0 stands for zeros alone."""

    step: float
    low: int
    high: int

    @property
    def values(self) -> NDArray[np.float64]:
        """The value of each level, in ascending order."""
        return np.arange(self.low, self.high + 1) * np.float64(self.step)

    @classmethod
    def wider(cls, step: float, bits: int) -> Grid:
        """Return a grid of twice the width on both sides.

        Weights that grow beyond the grid of a round are to be heard of in the next one.
        """
        return cls(step, -(2**bits), 2**bits)


def grid_for(values: Array, bits: int, share: float = 1.0) -> Grid:
    """Return the grid that spans a share of a tensor's weights, all but the largest.

    Where no weight is negative, or none is positive, all levels are on the one side; otherwise the
    odd one goes where most of five figures say that there is more: the largest size, the mean one,
    how many weights there are, their sum and their deviation.

    Examples
    --------
    >>> grid_for(np.array([-0.5, 0.875, 0.25]), 4)
    Grid(step=0.125, low=-7, high=8)
    >>> grid_for(np.array([0.0, 3.0]), 2)
    Grid(step=1.0, low=0, high=3)
    """
    flat = values.reshape(-1)
    sizes = np.abs(flat)
    span = _quantile(sizes, share) or float(sizes.max(initial=0))
    least, most = float(flat.min(initial=0)), float(flat.max(initial=0))
    half = 2 ** (bits - 1)
    if least < 0 < most:
        low, high, steps = (
            (1 - half, half, half - 1) if _upward(flat) else (-half, half - 1, half - 1)
        )
    else:
        steps = 2 * half - 1
        low, high = (0, steps) if most else (-steps, 0)
    step = single(span / steps)
    if step < quantise.SMALLEST_STEP:
        return Grid(0.0, low, high)
    return Grid(_standard(step), low, high)


def step_of(values: Array, bits: int) -> float:
    """Return the step of the grid that all values lie on, 0 if there is none.

    It may have as many more levels as `Grid.wider` allows.  Where all levels have a common divisor
    the step is as many times larger.

    Examples
    --------
    >>> step_of(np.array([-0.375, 0.0, 0.25], np.float32), 4)
    0.125
    >>> step_of(np.array([0.1, 0.25], np.float32), 4)
    0.0
    """
    flat, most = values.reshape(-1), 2**bits
    for part in (flat[:_SAMPLE], flat):
        found = np.unique(part[part != 0])
        if len(found) > 2 * most:
            return 0.0
        if len(found):
            step = _divisor(found)
            levels = np.rint(flat / step)  # exact where there is such a grid
            usual = quantise.SMALLEST_STEP <= step < quantise.STEP_BOUND
            if usual and np.abs(levels).max() <= most and np.array_equal(levels * step, flat):
                return step
    return 0.0


def _quantile(sizes: Array, share: float) -> float:
    """Return the size that a share of all do not exceed."""
    if not sizes.size:
        return 0.0
    rank = max(math.ceil((share - 1e-9) * sizes.size), 1) - 1
    return float(np.partition(sizes, rank)[rank])


def _upward(flat: Array) -> bool:
    """Tell whether most of five figures of the positive weights exceed those of the negative."""
    wide = flat.astype(np.float64, copy=False)
    above, below = wide[wide > 0], -wide[wide < 0]
    figures = [
        (float(p.max()), float(p.mean()), p.size, float(p.sum()), float(p.std()))
        for p in (above, below)
    ]
    return sum(bool(a > b) for a, b in zip(*figures, strict=True)) > 2


def _standard(step: float) -> float:
    """Return the nearest step of the standard's scale."""
    return quantise.step_from_qp(quantise.nearest_qp(step, STEP_DENSITY), STEP_DENSITY)


def _divisor(values: Array) -> float:
    """Return the largest number of which all values, none of them 0, are multiples."""
    mantissas, exponents = np.frexp(np.abs(values.astype(np.float64)))
    least = int(exponents.min())
    whole = [
        int(m * 2.0**_MANTISSA) << (int(e) - least)
        for m, e in zip(mantissas, exponents, strict=True)
        if e - least < 64
    ]
    return math.ldexp(reduce(math.gcd, whole), least - _MANTISSA)
