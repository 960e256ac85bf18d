"""Runs beside each other in a picture: their metric by round and by bytes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from fedcomp.errors import DataError
from fedcomp.report.plots.axes import count_rounds, log_axis, mark_target
from fedcomp.report.plots.drawing import as_png, beside, styled
from fedcomp.report.plots.lines import Line, draw_lines, legend_of, name_lines, room, tall
from fedcomp.report.plots.palette import looks
from fedcomp.report.plots.series import Series
from fedcomp.report.runs import read_run
from fedcomp.report.units import power
from fedcomp.storage import save_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fedcomp.tensors import Array

Counted: TypeAlias = Literal["both", "uplink"]


@dataclass(frozen=True)
class Curve:
    """What a run's model was worth after each round, from round 0 on.

    Attributes
    ----------
    sent
        All bytes up to the end of each round: both ways with evaluation, or of the uplink.
    reference_bytes
        What float32 would have cost in the whole run.
    counted
        Which bytes these are.
    """

    name: str
    metric: str
    scores: tuple[float, ...]
    sent: tuple[int, ...]
    reference_bytes: int
    counted: Counted = "both"

    def reached(self, target: float) -> int | None:
        """Return the first round whose model reaches a target.

        Examples
        --------
        >>> curve = Curve("a", "accuracy", (0.1, 0.5, 0.4, 0.6), (0, 10, 20, 30), 900)
        >>> curve.reached(0.5), curve.reached(0.55), curve.reached(0.7)
        (1, 3, None)
        """
        return next((at for at, score in enumerate(self.scores) if score >= target), None)

    def within(self, budget_bytes: int) -> int:
        """Return the last round that a budget pays for.

        Examples
        --------
        >>> curve = Curve("a", "accuracy", (0.1, 0.5, 0.4, 0.6), (0, 10, 20, 30), 900)
        >>> curve.within(29), curve.within(30), curve.within(9)
        (2, 3, 0)
        """
        return max(bisect_right(self.sent, budget_bytes) - 1, 0)


def read_curve(folder: Path, name: str = "", counted: Counted = "both") -> Curve:
    """Return the curve of a run folder, under its method's name if no other is given."""
    run = read_run(folder)
    if run is None:
        msg = f"{folder / 'rounds.csv'} has no round"
        raise DataError(msg)
    uplink = run.columns["uplink_bytes"].cumsum()
    sent = tuple(map(int, run.sent if counted == "both" else uplink))
    reference = int(run.summary["reference_bytes"]) // (1 if counted == "both" else 2)
    scores = tuple(map(float, run.scores))
    return Curve(name or run.method, run.metric, scores, sent, reference, counted)


def draw(curves: Sequence[Curve], path: Path, target: float | None = None) -> None:
    """Write a picture: the metric by round, and by bytes on a logarithmic axis."""
    names = [curve.name for curve in curves]
    lines = [
        Line(number, curve.name, curve.name, look, Series(*_points(curve)))
        for number, (curve, look) in enumerate(zip(curves, looks(names), strict=True))
    ]
    there = [(line, np.array(c.sent) > 0) for line, c in zip(lines, curves, strict=True)]
    sent = [
        line._replace(series=replace(line.series.where(some), x=np.array(curve.sent)[some]))
        for (line, some), curve in zip(there, curves, strict=True)
        if some.any()
    ]
    between = 0.3 if legend_of(lines)[0] else room(lines)
    with styled():
        figure, (by_round, by_bytes) = beside(tall(lines), (between, room(lines)), 4.2)
        draw_lines(by_round, lines)
        draw_lines(by_bytes, sent)
        by_round.set(xlabel="round", ylabel=curves[0].metric)
        by_bytes.set(xlabel="sent, both ways" if curves[0].counted == "both" else "sent up")
        count_rounds(by_round, lines)
        if sent:
            log_axis(by_bytes, "x", power)
        if target is not None:
            for axes in (by_round, by_bytes):
                mark_target(axes, target)
        name_lines(figure, [by_round, by_bytes], [lines, sent])
    save_bytes(as_png(figure), path)


def _points(curve: Curve) -> tuple[Array, Array, Array, Array]:
    """Return the numbers of rounds, and the metric as a line whose band has no height."""
    scores = np.array(curve.scores)
    return np.arange(len(scores), dtype=float), scores, scores, scores
