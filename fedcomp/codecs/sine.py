"""A sine with the same bits on every machine, which no mathematics library promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def sine(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sin x for |x| ≤ π/2, the same to the bit everywhere: a Taylor series of × and +.

    Examples
    --------
    >>> sine(np.array([0.0, np.pi / 6, np.pi / 2])).round(15).tolist()
    [0.0, 0.5, 1.0]
    """
    squares = angles * angles
    total = np.ones_like(angles)
    for k in range(21, 1, -2):
        total = 1.0 - total * squares / (k * (k - 1))
    return angles * total
