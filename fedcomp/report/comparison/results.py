"""The table of a report: a row a group of runs, each figure for people and for programs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from fedcomp.report.columns import BITS
from fedcomp.report.summary import model_ratio
from fedcomp.report.units import NOTHING, duration, megabytes, times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fedcomp.report.comparison.groups import Group
    from fedcomp.report.runs import Run

Value: TypeAlias = "str | int | float | None"


class Cell(NamedTuple):
    """What people read, and what programs do, a value for each of the column's keys."""

    text: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Column:
    """One quantity of all groups.

    Attributes
    ----------
    keys
        What the values are called where programs read them.
    """

    title: str
    keys: tuple[str, ...]
    cells: tuple[Cell, ...]


def table(groups: Sequence[Group], targets: Sequence[float]) -> list[Column]:
    """Return the columns that have something to say of these groups."""

    def column(title: str, keys: Sequence[str], cell: Callable[[Group], Cell]) -> Column:
        return Column(title, tuple(keys), tuple(cell(group) for group in groups))

    def one(title: str, key: str, of: Callable[[Run], float | None], text: _Text) -> Column:
        return column(title, [key], lambda group: _mean(map(of, group.runs), text))

    metrics = list(dict.fromkeys(group.runs[0].metric for group in groups))
    title = metrics[0] if len(metrics) == 1 else "result"
    columns = [
        column("method", ["method"], lambda g: Cell(g.label, (g.label,))),
        column("runs", ["runs", "seeds"], _runs),
        column("rounds", ["rounds", "finished"], _rounds),
        column(title, ["metric", "result", "deviation"], lambda g: _result(g, len(metrics) > 1)),
        one("best", "best", lambda run: float(np.fmax.reduce(run.scores)), _score),
        one("sent", "total_bytes", lambda run: float(run.sent[-1]), megabytes),
        one("ratio", "compression_ratio", lambda r: r.summary["compression_ratio"], times),
        column("bits up / down", BITS, _bits),
        one("model", "model_ratio", lambda run: model_ratio(run.summary), times),
        *(column(f"to {target:g}", _keys(target, "bytes"), _to(target)) for target in targets),
        one("time", "wall_seconds", lambda run: run.summary["wall_seconds"], duration),
    ]
    if any(run.seconds is not None for group in groups for run in group.runs):
        keys = ["network_seconds", "network_deviation"]
        columns.append(column("network", keys, lambda group: _spread(map(_network, group.runs))))
        columns += [
            column(f"network to {target:g}", _keys(target, "seconds"), _when(target))
            for target in targets
        ]
    return columns


_Text: TypeAlias = "Callable[[float], str]"


def _score(value: float) -> str:
    return f"{value:.4f}"


def _mean(values: Iterable[float | None], text: _Text) -> Cell:
    there = [value for value in values if value is not None]
    found = mean(there) if there else None
    return Cell(NOTHING if found is None else text(found), (found,))


def _spread(seconds: Iterable[float | None]) -> Cell:
    """Return the mean of times and the sample deviation of several."""
    there = [value for value in seconds if value is not None]
    cell = _mean(there, duration)
    if len(there) < 2:
        return Cell(cell.text, (*cell.values, None))
    off = stdev(there)
    return Cell(f"{cell.text} ± {duration(off)}", (*cell.values, off))


def _runs(group: Group) -> Cell:
    seeds = " ".join(map(str, sorted(group.seeds, key=str)))
    return Cell(str(len(group.runs)), (len(group.runs), seeds))


def _rounds(group: Group) -> Cell:
    """Return the last round, of the run that is least far to the one that is farthest."""
    found = sorted({run.rounds for run in group.runs})
    text = str(found[0]) if len(found) == 1 else f"{found[0]}–{found[-1]}"
    finished = sum(run.is_finished for run in group.runs)
    end = "" if group.is_finished else "…"
    return Cell(text + end, (found[-1], finished))


def _result(group: Group, named: bool) -> Cell:
    """Return the mean of the last rounds' metric, and the sample deviation of several runs."""
    scores = [float(run.scores[-1]) for run in group.runs]
    middle, spread = mean(scores), None
    if len(scores) > 1:
        spread = stdev(scores) if math.isfinite(middle) else math.nan
    text = _score(middle) + ("" if spread is None else f" ± {spread:.4f}")
    metric = group.runs[0].metric
    return Cell(f"{metric} {text}" if named else text, (metric, middle, spread))


def _bits(group: Group) -> Cell:
    up, down = (_mean((r.summary.get(key) for r in group.runs), "{:.3g}".format) for key in BITS)
    return Cell(f"{up.text} / {down.text}", up.values + down.values)


def _network(run: Run) -> float | None:
    return None if run.seconds is None else float(run.seconds[-1])


def _keys(target: float, unit: str) -> list[str]:
    return [f"{unit}_to_{target:g}", *([f"reached_{target:g}"] if unit == "bytes" else [])]


def _to(target: float) -> Callable[[Group], Cell]:
    """Return what makes a cell of the bytes sent until runs reached a target."""

    def cell(group: Group) -> Cell:
        found = [float(run.sent[at]) for run, at in _those_at(group, target)]
        made = _mean(found, megabytes)
        return Cell(made.text + _of(len(found), group), (*made.values, len(found)))

    return cell


def _when(target: float) -> Callable[[Group], Cell]:
    """Return what makes a cell of the simulated seconds until runs reached a target."""

    def cell(group: Group) -> Cell:
        there = [(run.seconds, at) for run, at in _those_at(group, target)]
        found = [float(seconds[at]) for seconds, at in there if seconds is not None]
        made = _mean(found, duration)
        return Cell(made.text + _of(len(found), group), made.values)

    return cell


def _those_at(group: Group, target: float) -> list[tuple[Run, int]]:
    """Return the runs that reached a target, and in which round."""
    found = ((run, run.reached(target)) for run in group.runs)
    return [(run, at) for run, at in found if at is not None]


def _of(count: int, group: Group) -> str:
    return f" ({count} of {len(group.runs)})" if 0 < count < len(group.runs) else ""
