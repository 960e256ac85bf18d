"""Runs beside each other: their metric by round and by bytes, as a table and as a picture."""

from __future__ import annotations

import csv
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, TypeAlias

from rich.table import Table

from fedcomp.errors import DataError
from fedcomp.report.progress import megabytes
from fedcomp.report.summary import metric_of, read_summary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
    summary = read_summary(folder)
    metric, _ = metric_of(summary)
    try:
        with (folder / "rounds.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        scores = tuple(float(row[metric]) for row in rows)
        both = ("uplink_bytes", "downlink_bytes", "evaluation_bytes")
        kinds = both if counted == "both" else both[:1]
        sent = tuple(accumulate(sum(int(row[kind]) for kind in kinds) for row in rows))
    except (OSError, KeyError, TypeError, ValueError) as error:
        msg = f"{folder / 'rounds.csv'} is not the table of a run: {error}"
        raise DataError(msg) from error
    if not scores:
        msg = f"{folder / 'rounds.csv'} has no round"
        raise DataError(msg)
    found = name or str(summary["method"])
    reference = int(summary["reference_bytes"]) // (1 if counted == "both" else 2)
    return Curve(found, metric, scores, sent, reference, counted)


def comparison(
    curves: Sequence[Curve], reference: Curve, target: float, budget_bytes: int | None = None
) -> Table:
    """Return a row a run: the final metric, bytes, and what it took to reach a target.

    Parameters
    ----------
    reference
        The run whose bytes to the target all others are divided by.
    budget_bytes
        Show the metric that so many bytes pay for, too.
    """
    metric = reference.metric
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("run")
    sent = "sent" if reference.counted == "both" else "sent up"
    columns = ("rounds", metric, "best", sent, "ratio")
    for name in (*columns, f"round with {target:.4f}", f"{sent} then", "fewer bytes"):
        table.add_column(name, justify="right")
    if budget_bytes is not None:
        table.add_column(f"{metric} (round) for {megabytes(budget_bytes)}", justify="right")
    base = reference.reached(target)
    for curve in curves:
        at = curve.reached(target)
        cells = ["–", "–", "–"]
        if at is not None:
            less = reference.sent[base] / curve.sent[at] if base and curve.sent[at] else None
            cells = [str(at), megabytes(curve.sent[at]), "–" if less is None else f"{less:.1f} ×"]
        ratio = curve.reference_bytes / curve.sent[-1] if curve.sent[-1] else None
        table.add_row(
            curve.name,
            str(len(curve.scores) - 1),
            f"{curve.scores[-1]:.4f}",
            f"{max(curve.scores):.4f}",
            megabytes(curve.sent[-1]),
            "–" if ratio is None else f"{ratio:.1f} ×",
            *cells,
            *([] if budget_bytes is None else [_paid(curve, budget_bytes)]),
        )
    return table


def _paid(curve: Curve, budget_bytes: int) -> str:
    at = curve.within(budget_bytes)
    return f"{curve.scores[at]:.4f} ({at})"


def draw(curves: Sequence[Curve], path: Path, target: float | None = None) -> None:
    """Write a picture: the metric by round, and by bytes on a logarithmic axis."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, max(4.2, 0.24 * len(curves))), layout="constrained")
    FigureCanvasAgg(figure)
    by_round, by_bytes = figure.subplots(1, 2, sharey=True)
    for at, curve in enumerate(curves):
        colour = colormaps["tab10" if len(curves) <= 10 else "tab20"](at % 20)
        style = {"color": colour, "linestyle": "-" if at < 20 else "--"}
        by_round.plot(curve.scores, label=curve.name, **style)
        points = [(n, s) for n, s in zip(curve.sent, curve.scores, strict=True) if n > 0]
        by_bytes.plot([n for n, _ in points], [s for _, s in points], **style)
    by_bytes.set_xscale("log")
    by_bytes.xaxis.set_major_formatter(lambda value, _: _power(value))
    by_round.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_round.set(xlabel="round", ylabel=curves[0].metric, xlim=(0, None))
    by_bytes.set(xlabel="sent, both ways" if curves[0].counted == "both" else "sent up")
    for axes in (by_round, by_bytes):
        axes.grid(visible=True, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if target is not None:
            axes.axhline(target, color="black", linewidth=0.8, linestyle=":")
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, dpi=120)


def _power(count: float) -> str:
    """Return a power of ten of bytes in few letters.

    Examples
    --------
    >>> _power(1e3), _power(1e5), _power(1e9)
    ('1 kB', '100 kB', '1 GB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:g} {unit}"
    return f"{count:g} B"
