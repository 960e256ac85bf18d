"""Lines with bands around them, and their names: at their ends, or of many in a legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedcomp.report.plots.labels import End, put, width
from fedcomp.report.plots.palette import Look, look_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from fedcomp.report.plots.series import Series

LABELLED = 12
"""More lines have no labels at their ends but a legend beside."""

_LISTED = 40
"""More have one legend entry a method."""

_COLUMN = 22
_HEIGHT, _ENTRY = 3.1, 0.185


class Line(NamedTuple):
    """A series with its name and how it is drawn.

    Attributes
    ----------
    number
        The same in all pictures of a report.
    method
        What a legend calls lines that it has no room for.
    """

    number: int
    label: str
    method: str
    look: Look
    series: Series


def room(lines: Sequence[Line]) -> float:
    """Return the inches that labels at the ends of lines need, or the legend instead."""
    labels, columns = legend_of(lines)
    if not labels:
        return 0.1 + max((width(line.label) for line in lines), default=0) / 72
    return 0.25 + columns * (0.45 + max(width(label) for label in labels) / 72)


def tall(lines: Sequence[Line]) -> float:
    """Return how many inches high axes are, so that labels or legend have room."""
    return max(_HEIGHT, 1.1 + _ENTRY * min(len(lines), _COLUMN))


def legend_of(lines: Sequence[Line]) -> tuple[dict[str, Look], int]:
    """Return the entries of a legend, none where labels do, and in how many columns they stand."""
    if len(lines) <= LABELLED:
        return {}, 0
    if len(lines) <= _LISTED:
        entries = {line.label: line.look for line in lines}
    else:
        methods = [line.method for line in lines]
        names = dict.fromkeys(methods)
        looks = {name: Look(look_of(name).colour) for name in names}
        entries = {f"{name} ({methods.count(name)})": look for name, look in looks.items()}
    return entries, -(-len(entries) // _COLUMN)


def draw_lines(axes: Axes, lines: Sequence[Line], *, log: bool = False) -> None:
    """Draw lines with their bands; labels come later, when the limits are set."""
    from matplotlib.lines import Line2D

    many, crowd = len(lines) > LABELLED, len(lines) > _LISTED
    for number, _, _, look, series in lines:
        # In a crowd nobody could tell dashes and marks apart, and they take long.
        pen = _pen(Look(look.colour), 0.7) if crowd else _pen(look, 1.2 if many else 1.7)
        if len(series.x) == 1:
            pen["marker"] = look.marker or "o"
        drawn = axes.add_line(Line2D(series.x, series.mean, **pen))
        drawn.set_markevery(max(len(series.x) // 8, 1))
        drawn.set_gid(f"line-{number}-mean")
        if not many and np.any(series.high > series.low):
            low = np.where(series.low > 0, series.low, series.mean) if log else series.low
            band = axes.fill_between(
                series.x, low, series.high, color=look.colour, alpha=0.16, linewidth=0
            )
            band.set_gid(f"line-{number}-band")
    axes.autoscale_view()


def name_lines(figure: Figure, every: Sequence[Axes], lines: Sequence[Sequence[Line]]) -> None:
    """Write labels at the ends of the lines of all axes, or one legend beside them."""
    longest = max(lines, key=len)
    entries, columns = legend_of(longest)
    if not entries:
        for axes, drawn in zip(every, lines, strict=True):
            put(axes, [_end(line) for line in drawn])
        return
    handles = [_handle(look) for look in entries.values()]
    place = every[-1].get_position()
    figure.legend(
        handles,
        list(entries),
        loc="upper left",
        bbox_to_anchor=(place.x1 + 0.01, every[0].get_position().y1 + 0.02),
        ncols=columns,
        frameon=False,
        handlelength=2.6,
        columnspacing=1.0,
        labelspacing=0.35,
    )


def _end(line: Line) -> End:
    x, y = line.series.x[-1], line.series.mean[-1]
    return End(x, y, line.label, line.look.colour, f"line-{line.number}-name")


def _pen(look: Look, width: float) -> dict[str, Any]:
    return {
        "color": look.colour,
        "linestyle": look.dashes,
        "linewidth": width,
        "marker": look.marker or None,
        "markersize": 4,
    }


def _handle(look: Look) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], **_pen(look, 1.2))
