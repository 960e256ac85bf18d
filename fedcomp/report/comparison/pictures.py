"""The pictures of a report, each a function that returns a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.report.columns import BITS
from fedcomp.report.comparison.bars import split, to_target
from fedcomp.report.plots.axes import count_rounds, log_axis, mark_target
from fedcomp.report.plots.drawing import panels, styled
from fedcomp.report.plots.lines import Line, draw_lines, name_lines, room, tall
from fedcomp.report.plots.palette import looks
from fedcomp.report.plots.series import POINTS, series, thinned
from fedcomp.report.units import power

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.figure import Figure

    from fedcomp.report.comparison.groups import Group
    from fedcomp.report.runs import Run
    from fedcomp.tensors import Array

_MANY = 40
_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))


NAMES = ("by_round", "by_bytes", "by_time", "to_target", "round_bytes", "split", "bits")
"""What pictures there may be."""


class Picture(NamedTuple):
    """A figure, the name of its files, what it is called, and what is to be known of it."""

    name: str
    title: str
    text: str
    figure: Figure


def draw(groups: Sequence[Group], targets: Sequence[float]) -> Iterator[Picture]:
    """Yield the pictures for which there are figures."""
    span = " Bands span the seeds." if any(len(group.runs) > 1 for group in groups) else ""
    metric = _metric(groups)
    if (counted := by_round(groups, targets)) is not None:
        text = f"On the test set, of the model that clients hold.{span}"
        yield Picture("by_round", f"{metric} by round", text, counted)
    if not any(run.sent[-1] for group in groups for run in group.runs):
        return
    evaluation = any(_evaluates(run) for group in groups for run in group.runs)
    those = ", those for evaluation included" if evaluation else ""
    some = any(not group.is_finished for group in groups)
    ends = " A line ends with the first of its runs that does." if some else ""
    if (sent := by_bytes(groups, targets)) is not None:
        text = f"All packets up to the end of the round, both ways{those}.{ends}"
        yield Picture("by_bytes", f"{metric} by what was sent", text, sent)
    if (timed := by_time(groups, targets)) is not None:
        text = f"On the simulated network.{ends}"
        yield Picture("by_time", f"{metric} by simulated time", text, timed)
    if targets and (reached := to_target(groups, targets)) is not None:
        text = "All packets both ways up to the first round at the target; mean of the runs there."
        yield Picture("to_target", "bytes to the target", text, reached)
    if (each := round_bytes(groups)) is not None:
        text = "For training, all clients together; evaluation is apart."
        yield Picture("round_bytes", "bytes of each round", text, each)
    text = (
        "Mean of all rounds after the start. Keyframes are with their headers, updates with"
        " replies that came late or were refused."
    )
    yield Picture("split", "what the bytes are", text, split(groups))
    if (bits := bits_per_weight(groups)) is not None:
        text = "Payload of a packet over all weights of the model."
        yield Picture("bits", "bits for each weight", text, bits)


def by_round(groups: Sequence[Group], targets: Sequence[float] = ()) -> Figure | None:
    """Draw the metric after each round, None where it is nowhere a number."""
    lines = _lines(groups, _numbers, lambda run: run.scores)
    if not lines:
        return None
    return _metric_lines(lines, _metric(groups), "round", targets)


def by_bytes(groups: Sequence[Group], targets: Sequence[float] = ()) -> Figure | None:
    """Draw the metric against all bytes sent, on a logarithmic axis, None where nothing was."""
    every = _lines(groups, lambda run: run.sent, lambda run: run.scores, together=True)
    there = [(line, line.series.x > 0) for line in every]
    lines = [line._replace(series=line.series.where(sent)) for line, sent in there if sent.any()]
    if not lines:
        return None
    evaluation = any(_evaluates(run) for group in groups for run in group.runs)
    title = f"sent, both ways{' with evaluation' if evaluation else ''}"
    return _metric_lines(lines, _metric(groups), title, targets, log=True)


def by_time(groups: Sequence[Group], targets: Sequence[float] = ()) -> Figure | None:
    """Draw the metric against seconds on the simulated network, None where no run had one."""
    timed = [group for group in groups if any(run.seconds is not None for run in group.runs)]
    scores: Callable[[Run], Array | None] = lambda r: None if r.seconds is None else r.scores  # noqa: E731
    lines = _lines(timed, _seconds, scores, together=True)
    if not any(line.series.x[-1] > 0 for line in lines):
        return None
    return _metric_lines(lines, _metric(groups), "simulated time", targets, time=True)


def round_bytes(groups: Sequence[Group]) -> Figure | None:
    """Draw the bytes of each round, a panel for each direction."""
    return _both(groups, ("uplink_bytes", "downlink_bytes"), "bytes a round", power)


def bits_per_weight(groups: Sequence[Group]) -> Figure | None:
    """Draw the bits that each weight takes in a packet, a panel for each direction."""
    every = [run for group in groups for run in group.runs]
    if not any(np.isfinite(run.columns[name]).any() for run in every for name in BITS):
        return None
    return _both(groups, BITS, "bits a weight", "{:g}".format)


def _both(
    groups: Sequence[Group], names: Sequence[str], unit: str, text: Callable[[float], str]
) -> Figure | None:
    """Draw a quantity of each round on logarithmic axes, the uplink above the downlink."""
    drawn = [_lines(groups, _numbers, _positive(name)) for name in names]
    longest = max(drawn, key=len)
    if not longest:
        return None
    with styled():
        height = 0.6 * tall(longest)
        figure, every = panels(2, height, room(longest))
        for axes, lines, title in zip(every, drawn, ("uplink", "downlink"), strict=True):
            draw_lines(axes, lines, log=True)
            axes.set_title(f"{title}, {unit}")
            log_axis(axes, "y", text)
            count_rounds(axes, lines)
        every[-1].set_xlabel("round")
        name_lines(figure, every, drawn)
    return figure


def _metric_lines(
    lines: list[Line],
    metric: str,
    title: str,
    targets: Sequence[float],
    *,
    log: bool = False,
    time: bool = False,
) -> Figure:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    with styled():
        figure, (axes,) = panels(1, tall(lines), room(lines))
        draw_lines(axes, lines)
        axes.set(xlabel=title, ylabel=metric)
        if log:
            log_axis(axes, "x", power)
        elif time:
            longest = max(line.series.x[-1] for line in lines)
            size, unit = next(unit for unit in _UNITS if longest >= 2 * unit[0] or unit[0] == 1)
            axes.xaxis.set_major_locator(MultipleLocator(_step(longest / size) * size))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / size:g}"))
            axes.set(xlim=(0, longest), xlabel=f"{title} ({unit})")
        else:
            count_rounds(axes, lines)
        for target in targets:
            mark_target(axes, target)
        name_lines(figure, [axes], [lines])
    return figure


def _lines(
    groups: Sequence[Group],
    x: Callable[[Run], Array],
    y: Callable[[Run], Array | None],
    *,
    together: bool = False,
) -> list[Line]:
    """Return a line for each group that has something to draw; looks hang on all groups."""
    found = []
    drawn = looks(group.method for group in groups)
    points = POINTS if len(groups) <= _MANY else POINTS // 2
    for number, (group, look) in enumerate(zip(groups, drawn, strict=True)):
        made = series(group.runs, x, y, together=together)
        if made is not None:
            label = group.label if group.is_finished else f"{group.label} …"
            found.append(Line(number, label, group.method, look, thinned(made, points)))
    return found


def _numbers(run: Run) -> Array:
    return np.arange(len(run.scores), dtype=float)


def _seconds(run: Run) -> Array:
    return _numbers(run) if run.seconds is None else run.seconds


def _positive(name: str) -> Callable[[Run], Array]:
    """Return what reads a column for a logarithmic axis."""
    return lambda run: np.where(run.columns[name] > 0, run.columns[name], np.nan)


def _metric(groups: Sequence[Group]) -> str:
    return ", ".join(dict.fromkeys(group.runs[0].metric for group in groups))


def _evaluates(run: Run) -> bool:
    return bool(run.columns["evaluation_bytes"].any())


def _step(span: float) -> float:
    """Return a round distance between some six ticks.

    Examples
    --------
    >>> _step(184), _step(3.1), _step(59)
    (50.0, 0.5, 10.0)
    """
    size = 10.0 ** np.floor(np.log10(max(span, 1e-9) / 5))
    return float(size * next(n for n in (1, 2, 5, 10) if n * size * 7 >= span))
