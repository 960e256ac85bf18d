"""The squared error of an update, and the setting of a codec at which it is a given one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.tensors import Tensors

TOLERANCE = 0.01


def squared_error(wanted: Tensors, seen: Tensors) -> float:
    """Return ‖x − x̂‖² over all tensors; one that is not there is all zero.

    Examples
    --------
    >>> squared_error({"a": np.ones(3), "b": np.ones(1)}, {"a": np.zeros(3)})
    4.0
    """
    return sum(
        float(np.square(value.astype(np.float64) - seen.get(name, 0)).sum())
        for name, value in wanted.items()
    )


def same(error: float, other: float) -> bool:
    """Return whether two squared errors are equal, but for one percent."""
    return math.isclose(error, other, rel_tol=TOLERANCE)


def step_for(error_of: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Return a step between two others whose squared error is the wanted one, by bisection.

    The error has to grow with the step, if not everywhere. It may be one percent less, not more.
    """
    first, last = low, high
    for _ in range(60):
        step = math.sqrt(low * high)
        error = error_of(step)
        if error <= wanted and same(error, wanted):
            return step
        low, high = (step, high) if error < wanted else (low, step)
    msg = f"no step from {first:g} to {last:g} has squared error {wanted:g}; {step:g}: {error:g}"
    raise RuntimeError(msg)
