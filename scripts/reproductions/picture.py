"""The picture of a comparison, made of its stored figures alone."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.report.plots.axes import log_axis, mark_target
from fedcomp.report.plots.drawing import PAPER, as_svg, panels, styled
from fedcomp.report.plots.labels import End, put, width
from fedcomp.report.plots.lines import Line, draw_lines
from fedcomp.report.plots.palette import looks
from fedcomp.report.plots.series import Series
from fedcomp.report.units import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from scripts.reproductions.results import Results

_HEIGHT, _WIDE, _OUTSIDE = 4.4, 7.6, 0.1


def draw(results: Results) -> str:
    """Return an SVG: the metric by bytes, a line for each run's first seed in the first case.

    The name stands at a line's end, a ring where it reaches the target.
    """
    runs = shown(results)
    names = [run["run"] for run in runs]
    lines = [
        Line(number, name, name, look, _series(run))
        for number, (run, name, look) in enumerate(zip(runs, names, looks(names), strict=True))
    ]
    drawn = [line for line in lines if len(line.series.x)]
    right = max(map(width, names)) / 72 + _OUTSIDE
    with styled():
        figure, (axes,) = panels(1, _HEIGHT, right, wide=_WIDE)
        draw_lines(axes, drawn)
        both = results["counted"] == "both"
        axes.set(xlabel="sent, both ways" if both else "sent up", ylabel=results["metric"])
        log_axis(axes, "x", power)
        for run, line in zip(runs, lines, strict=True):
            _mark_reached(axes, run, line.look.colour)
        if runs[0]["target"] is not None:
            mark_target(axes, round(runs[0]["target"], 4))
        put(axes, [_end(line) for line in drawn])
        for text in axes.texts:  # lines end one above the other: names stand out from them
            text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.5})
    return f"{as_svg(figure, outlined=True)}<!-- {fingerprint(results)} -->\n"


def fingerprint(results: Results) -> str:
    """Return what tells whether a picture is of these figures."""
    kept = ("run", "curve", "target", "score_at_target", "bytes_to_target")
    drawn = [{key: run.get(key) for key in kept} for run in shown(results)]
    text = json.dumps([results["metric"], results["counted"], drawn])
    return hashlib.sha256(text.encode()).hexdigest()


def shown(results: Results) -> list[Results]:
    """Return the runs of the picture: of each name to draw the first one, in the first case."""
    case = results["runs"][0]["case"]
    names = results.get("drawn") or {run["run"] for run in results["runs"]}
    found: dict[str, Results] = {}
    for run in results["runs"]:
        if run["case"] == case and run["run"] in names:
            found.setdefault(run["run"], run)
    return list(found.values())


def _series(run: Results) -> Series:
    """Return the part of a curve for which a logarithmic axis of bytes has a place."""
    sent, scores = (np.array(run["curve"][key], float) for key in ("sent_bytes", "scores"))
    return Series(sent, scores, scores, scores).where(sent > 0)


def _end(line: Line) -> End:
    x, y = line.series.x[-1], line.series.mean[-1]
    return End(x, y, line.label, line.look.colour, f"name-{line.label}")


def _mark_reached(axes: Axes, run: Results, colour: str) -> None:
    sent = run.get("bytes_to_target")
    if sent:
        axes.plot(
            [sent], [run["score_at_target"]], "o", ms=5, mec=colour, mfc=PAPER, mew=1.5, zorder=3
        )
