"""The picture of one run: its metric by round and by bytes, and the bytes of its rounds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.report.columns import SENT
from fedcomp.report.observer import Observer
from fedcomp.report.plots.axes import count_rounds, log_axis, mark_target
from fedcomp.report.plots.drawing import INK, as_png, beside, styled
from fedcomp.report.plots.lines import Line, draw_lines, name_lines
from fedcomp.report.plots.palette import DASHED, DOTTED, SOLID, Look, look_of
from fedcomp.report.plots.series import series, thinned
from fedcomp.report.runs import read_run
from fedcomp.report.units import power
from fedcomp.storage import save_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fedcomp.report.runs import Run
    from fedcomp.tensors import Array, Tensors

log = logging.getLogger(__name__)

_DPI = 110
_DASHES = (SOLID, DASHED, DOTTED)


class CurvesPicture(Observer):
    """Draws `curves.png` at the end of a run, from the file that holds all of its rounds.

    It comes after the observer that writes that file.
    """

    def __init__(self, folder: Path, targets: Sequence[float]) -> None:
        self._folder = folder
        self._targets = targets

    def on_end(self, model: Tensors) -> None:  # noqa: ARG002
        """Draw what there is; no run fails by that."""
        try:
            run = read_run(self._folder)
            if run is not None:
                save_bytes(draw(run, self._targets), self._folder / "curves.png")
        except Exception as error:
            log.warning("curves.png is not drawn: %s: %s", type(error).__name__, error)


def draw(run: Run, targets: Sequence[float]) -> bytes:
    """Return a PNG file: the metric by round and by bytes, and the bytes of each round."""

    def line(name: str, look: Look, x: Array, y: Callable[[Run], Array]) -> list[Line]:
        made = series([run], lambda _: x, y)
        return [] if made is None else [Line(0, name, name, look, thinned(made))]

    rounds = np.arange(len(run.scores), dtype=float)
    colour = look_of(run.method).colour
    by_round = line("", Look(colour), rounds, lambda run: run.scores)
    sent = np.where(run.sent > 0, run.sent, np.nan)
    by_bytes = line("", Look(colour), sent, lambda run: run.scores)
    kinds = [
        one
        for name, dashes in zip(SENT, _DASHES, strict=True)
        for one in line(
            name.removesuffix("_bytes"), Look(colour, dashes), rounds, _after_the_start(name)
        )
        if one.series.high.any()
    ]
    with styled():
        figure, every = beside(2.7, (0.15, 0.15, 0.85), 2.9)
        for axes, lines in zip(every, (by_round, by_bytes, kinds), strict=True):
            draw_lines(axes, lines)
        every[0].set(xlabel="round", ylabel=run.metric)
        every[1].set(xlabel="sent, both ways", ylabel=run.metric)
        every[2].set(xlabel="round", title="bytes of each round")
        count_rounds(every[0], by_round)
        count_rounds(every[2], kinds)
        if by_bytes:
            log_axis(every[1], "x", power)
        every[2].yaxis.set_major_formatter(lambda value, _: power(value))
        every[2].set_ylim(bottom=0)
        for target in targets:
            for axes in every[:2]:
                mark_target(axes, target)
        title = f"{run.method} on {run.summary['dataset']}, {run.summary['model']}"
        figure.text(0.008, 0.985, title, va="top", color=INK)
        name_lines(figure, every[2:], [kinds])
    return as_png(figure, _DPI)


def _after_the_start(name: str) -> Callable[[Run], Array]:
    """Return what reads a column but for round 0, in which nobody has sent anything."""
    return lambda run: np.concatenate([[np.nan], run.columns[name][1:]])
