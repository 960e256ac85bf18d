"""Stochastic rounding: the mean of what arrives is what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.tensors import Array


def rounded(quotients: Array, generator: np.random.Generator) -> NDArray[np.int32]:
    """Return ⌊v⌋ + 1 with probability v − ⌊v⌋, else ⌊v⌋; whole numbers stay as they are.

    Examples
    --------
    >>> levels = rounded(np.full(10_000, -1.25), np.random.default_rng(1))
    >>> np.unique(levels).tolist(), round(float(levels.mean()), 2)
    ([-2, -1], -1.25)
    """
    below = np.floor(quotients)
    up = generator.random(np.shape(quotients)) < quotients - below
    return np.asarray(below + up).astype(np.int32)
