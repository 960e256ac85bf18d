"""What the runs of a group have in common over their rounds: a mean, and the span around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fedcomp.report.runs import Run
    from fedcomp.tensors import Array

POINTS = 240
"""A line of more is thinned, which nobody sees."""


@dataclass(frozen=True)
class Series:
    """A line and a band: by round where the line is on average, and between what the runs are."""

    x: Array
    mean: Array
    low: Array
    high: Array

    def where(self, chosen: Array) -> Series:
        """Return the points that are chosen."""
        return Series(self.x[chosen], self.mean[chosen], self.low[chosen], self.high[chosen])


def series(
    runs: Iterable[Run],
    x: Callable[[Run], Array],
    y: Callable[[Run], Array | None],
    *,
    together: bool = False,
) -> Series | None:
    """Return the mean of some quantity of runs; None where no run has it.

    A run that ends early counts as far as it goes.

    Parameters
    ----------
    together
        End with the first run that does: where runs are at different places after a round, the mean
        would jump to another place when one ends.
    """
    found = [(x(run), values) for run in runs if (values := y(run)) is not None]
    if not found:
        return None
    length = (min if together else max)(len(values) for _, values in found)
    across = np.array([_padded(at[:length], length) for at, _ in found])
    values = np.array([_padded(value[:length], length) for _, value in found])
    there = ~(np.isnan(values) | np.isnan(across))
    count = there.sum(axis=0)
    some = count > 0
    if not some.any():
        return None
    across, values, there, count = across[:, some], values[:, some], there[:, some], count[some]
    return Series(
        np.where(there, across, 0).sum(axis=0) / count,
        np.where(there, values, 0).sum(axis=0) / count,
        np.where(there, values, np.inf).min(axis=0),
        np.where(there, values, -np.inf).max(axis=0),
    )


def thinned(given: Series, points: int = POINTS) -> Series:
    """Return about so many points of a line, its ends among them."""
    length = len(given.x)
    if length <= points:
        return given
    return given.where(np.unique(np.linspace(0, length - 1, points).round().astype(int)))


def _padded(values: Array, length: int) -> Array:
    return np.concatenate([values, np.full(length - len(values), np.nan)])
