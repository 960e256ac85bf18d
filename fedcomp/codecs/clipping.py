"""Clipping the few largest weights of a tensor, which would stretch the range of all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedcomp.tensors import Array

SETTLING = 0.01
"""Share of clipped weights with which two bits are enough for what is left of usual weights."""


def largest_kept(values: Array, share: float) -> float:
    """Return the largest magnitude of a tensor but for int(share · n) of its n non-zero weights.

    Examples
    --------
    >>> values = np.array([0.0, 1.0, -2.0, 3.0, -9.0])
    >>> largest_kept(values, 0.0), largest_kept(values, 0.25), largest_kept(values, 0.24)
    (9.0, 3.0, 9.0)
    """
    whole = np.count_nonzero(values) == values.size
    sizes = np.abs(values.reshape(-1) if whole else values[values != 0])
    dropped = int(share * sizes.size)
    at = sizes.size - 1 - dropped
    return float(np.partition(sizes, at)[at]) if dropped else float(sizes.max(initial=0))
