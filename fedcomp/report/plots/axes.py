"""Axes of pictures: of rounds, of magnitudes, and lines at targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.report.plots.drawing import FAINT
from fedcomp.report.plots.labels import SIZE, Box, in_the_way, width

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from fedcomp.report.plots.lines import Line

_LEAST_SPAN = 4.0


def log_axis(axes: Axes, which: str, text: Callable[[float], str]) -> None:
    """Make an axis logarithmic, with as many ticks as there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    limit = getattr(axes, f"set_{which}lim")
    if not axes.lines:
        limit(1.0, 10.0)
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = getattr(axes, f"get_{which}lim")()
    if high < _LEAST_SPAN * low:  # what hardly changes should look so
        low, high = (np.sqrt(low * high * by) for by in (1 / _LEAST_SPAN, _LEAST_SPAN))
        limit(low, high)
    decades = np.log10(high / low)
    steps = (1.0,) if decades > 2.2 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(10, subs=steps, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def count_rounds(axes: Axes, lines: Sequence[Line]) -> None:
    """Let an axis of rounds end with the last one, and have whole numbers."""
    from matplotlib.ticker import MaxNLocator

    last = max((line.series.x[-1] for line in lines), default=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlim(0, max(last, 1))


def mark_target(axes: Axes, target: float) -> None:
    """Draw a line at a target, if the axes reach as far, with a word where nothing else is."""
    low, high = axes.get_ylim()
    if not low < target < high:
        return
    lines, points = in_the_way(axes), 72 / axes.figure.dpi
    axes.axhline(target, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    text, size = f"target {target:g}", SIZE - 1.5
    (left, _), (right, _) = points * axes.transAxes.transform([(0, 0), (1, 0)])
    y = points * axes.transData.transform((axes.get_xlim()[0], target))[1]

    def box(across: float, up: float) -> Box:
        start = left + across * (right - left - width(text))
        return Box(start, y + up - size, start + width(text), y + up + size)

    places = [(across, up) for across in (0.0, 1.0, 0.75, 0.5, 0.25) for up in (6.0, -6.0)]
    across, up = min(places, key=lambda place: box(*place).hits(lines))
    axes.annotate(
        text,
        (box(across, up).left, y + up),
        xycoords="figure points",
        va="center",
        color=FAINT,
        size=size,
    )
