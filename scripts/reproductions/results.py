"""What the runs of a comparison came to: as JSON, and as a table."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fedcomp.config import compose_config
from fedcomp.report.comparison.results import Cell, Column
from fedcomp.report.summary import read_summary
from fedcomp.report.units import NOTHING, duration, megabytes
from scripts.reproductions.curves import read_curve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from scripts.reproductions.curves import Counted, Curve
    from scripts.reproductions.plan import Job, Plan

Results: TypeAlias = Mapping[str, Any]
Text: TypeAlias = "Callable[[float], str]"
Over: TypeAlias = "Callable[[Sequence[float], Text], tuple[float, str]]"
"""What several seeds come to: a number, and how a table shows it."""

_CODECS = ("encode_seconds", "decode_seconds")
_POINTS = 60


def collect(plan: Plan, jobs: Iterable[Job], folder: Path) -> dict[str, Any]:
    """Return the figures of all runs that are there.

    A run is compared with the reference of its own case and seed.
    """
    found = {job: folder / job.folder for job in jobs}
    found = {job: place for job, place in found.items() if (place / "summary.json").is_file()}
    curves = {job: read_curve(place, job.run, plan.counted) for job, place in found.items()}
    groups: dict[tuple[str, int | None], list[Curve]] = {}
    for job, curve in curves.items():
        groups.setdefault((job.case, job.seed), []).append(curve)
    runs = []
    for job, place in found.items():
        summary, curve = read_summary(place), curves[job]
        entry = {
            "run": job.run,
            "case": job.case,
            "seed": summary["seed"],
            "status": summary["status"],
            "words": " ".join(job.words),
            "rounds": len(curve.scores) - 1,
            "final": curve.scores[-1],
            "sent_bytes": curve.sent[-1],
            "ratio": curve.reference_bytes / max(curve.sent[-1], 1),
            "codec_seconds_a_round": _codec_seconds(place),
        }
        if plan.budget_bytes is not None:
            within = curve.within(plan.budget_bytes)
            entry |= {"budget_round": within, "budget_score": curve.scores[within]}
        entry |= _to_target(plan, curve, groups[job.case, job.seed])
        at = entry.get("rounds_to_target")
        if at is not None:
            entry["network_seconds_to_target"] = _network_seconds(place, at)
            entry["message_bytes_to_target"] = _message_bytes(place, at, plan.counted)
        runs.append({**entry, "curve": _thinned(curve, at)})
    _compare_messages(runs, plan.reference)
    return {
        "field": _field(plan, found),
        "reference": plan.reference,
        "metric": next(iter(curves.values())).metric if curves else "",
        "counted": plan.counted,
        "budget_bytes": plan.budget_bytes,
        "drawn": list(plan.drawn),
        "runs": runs,
    }


def as_json(results: Results) -> str:
    """Return figures as JSON, a list of numbers in a line.

    Examples
    --------
    >>> print(as_json({"a": [1, 2.5], "b": ["x"]}), end="")
    {
     "a": [1, 2.5],
     "b": [
      "x"
     ]
    }
    """
    text = json.dumps(results, indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+([-+.\deE,\s]+?)\s+\]", _in_a_line, text) + "\n"


def _in_a_line(found: re.Match[str]) -> str:
    return f"[{' '.join(found[1].split())}]"


def target_of(plan: Plan, curves: Iterable[Curve]) -> float | None:
    """Return what the reference among some curves has after half its rounds."""
    found = (curve.scores for curve in curves if curve.name == plan.reference)
    return next((scores[(len(scores) - 1) // 2] for scores in found), None)


def _compare_messages(runs: Sequence[dict[str, Any]], reference: str) -> None:
    """Add how many times fewer bytes of messages a run sent than the reference of its group."""
    key = "message_bytes_to_target"
    whole = {(run["case"], run["seed"]): run.get(key) for run in runs if run["run"] == reference}
    for run in runs:
        if reference_bytes := run.get(key) and whole.get((run["case"], run["seed"])):
            run["times_fewer_message_bytes"] = reference_bytes / run[key]


def _to_target(plan: Plan, curve: Curve, group: Sequence[Curve]) -> dict[str, Any]:
    """Return what it took to reach the target of a group of curves.

    A target that the untrained model has is none.
    """
    target = target_of(plan, group)
    if target is None or not (at := curve.reached(target)):
        return {"target": target}
    (reference,) = (other for other in group if other.name == plan.reference)
    return {
        "target": target,
        "rounds_to_target": at,
        "score_at_target": curve.scores[at],
        "bytes_to_target": curve.sent[at],
        "times_fewer_bytes": reference.sent[reference.reached(target) or 0] / curve.sent[at],
    }


def columns(results: Results) -> list[Column]:
    """Return a table: a row a case and run; of several seeds the mean, or of ratios the median.

    A ratio may be far off, where a seed's target is hardly more than chance.
    """
    groups: dict[tuple[str, str], list[Results]] = {}
    for entry in results["runs"]:
        groups.setdefault((entry["case"], entry["run"]), []).append(entry)
    made = list(groups.values())

    def column(title: str, key: str, text: Text, over: Over = _mean) -> Column:
        return Column(title, (key,), tuple(_cell(group, key, text, over) for group in made))

    first = [Column("method", ("run",), tuple(_named(group, "run") for group in made))]
    if len({case for case, _ in groups}) > 1:
        first.insert(0, Column("case", ("case",), tuple(_named(group, "case") for group in made)))
    if any(len(group) > 1 for group in made):
        counts = tuple(Cell(str(len(group)), (len(group),)) for group in made)
        first.append(Column("seeds", ("seeds",), counts))
    sent = "sent" if results["counted"] == "both" else "sent up"
    last = [
        column("rounds", "rounds", "{:.0f}".format),
        column(results["metric"], "final", "{:.4f}".format, _mean_and_deviation),
        column(sent, "sent_bytes", megabytes),
        column("ratio", "ratio", times_fewer, _median),
        column("to target", "bytes_to_target", megabytes),
        column("fewer bytes", "times_fewer_bytes", times_fewer, _median_and_range),
        column("in messages", "times_fewer_message_bytes", times_fewer, _median),
        column("rounds to it", "rounds_to_target", "{:.3g}".format),
    ]
    if any(entry.get("network_seconds_to_target") for entry in results["runs"]):
        last.append(column("network time to it", "network_seconds_to_target", duration))
    if results["budget_bytes"] is not None:
        title = f"{results['metric']} for {megabytes(results['budget_bytes'])}"
        last.append(column(title, "budget_score", "{:.4f}".format))
        last.append(column("in round", "budget_round", "{:.3g}".format))
    last.append(column("codecs a round", "codec_seconds_a_round", duration))
    return [*first, *last]


def times_fewer(value: float) -> str:
    """Return a ratio to one digit: that of a field, not of a run."""
    return f"{value:.1f} ×" if value < 100 else f"{value:.0f} ×"


def _named(group: Sequence[Results], key: str) -> Cell:
    going = "" if all(entry["status"] == "finished" for entry in group) else " …"
    name = group[0][key]
    return Cell(name + (going if key == "run" else ""), (name,))


def _cell(group: Sequence[Results], key: str, text: Text, over: Over) -> Cell:
    found = [entry[key] for entry in group if entry.get(key) is not None]
    if not found:
        return Cell(NOTHING, (None,))
    middle, shown = over(found, text)
    some = f" ({len(found)} of {len(group)})" if len(found) < len(group) else ""
    return Cell(shown + some, (middle,))


def _mean(values: Sequence[float], text: Text) -> tuple[float, str]:
    middle = mean(values)
    return middle, text(middle)


def _mean_and_deviation(values: Sequence[float], text: Text) -> tuple[float, str]:
    middle, shown = _mean(values, text)
    return middle, f"{shown} ± {text(stdev(values))}" if len(values) > 1 else shown


def _median(values: Sequence[float], text: Text) -> tuple[float, str]:
    middle = median(values)
    return middle, text(middle)


def _median_and_range(values: Sequence[float], text: Text) -> tuple[float, str]:
    middle, shown = _median(values, text)
    least, most = text(min(values)), text(max(values))
    return middle, shown if least == most else f"{shown} ({least} to {most})"


def _thinned(curve: Curve, reached: int | None) -> dict[str, Sequence[float]]:
    """Return as much of a curve as a picture with a logarithmic axis of bytes shows."""
    last = len(curve.scores) - 1
    rounds = set(range(last + 1))
    if last > _POINTS:
        rounds = {0, *np.geomspace(1, last, _POINTS).round().astype(int).tolist()}
    kept = sorted(rounds | {reached or 0})
    return {
        "rounds": kept,
        "scores": [round(curve.scores[number], 5) for number in kept],
        "sent_bytes": [curve.sent[number] for number in kept],
    }


def _field(plan: Plan, jobs: Iterable[Job]) -> dict[str, Any]:
    """Return what all runs share, as the reference's first one has it; a case may change it."""
    words = next((job.words for job in jobs if job.run == plan.reference), None)
    if words is None:
        return {}
    config = compose_config(list(words))
    return {
        **{key: config[key]["name"] for key in ("dataset", "model")},
        **{key: config[key] for key in ("partition", "clients", "fraction")},
        **{key: config["train"][key] for key in ("epochs", "steps", "batch_size")},
    }


def _codec_seconds(folder: Path) -> float:
    """Return what coding takes on all sides in a round, the median of all but the first."""
    spent = [sum(float(row[name] or 0) for name in _CODECS) for row in _rows(folder, "rounds.csv")]
    return median(spent[2:] or spent)


def _network_seconds(folder: Path, last: int) -> float | None:
    """Return the seconds on a simulated network up to the end of a round."""
    cells = [row["network_seconds"] for row in _rows(folder, "rounds.csv")][: last + 1]
    return sum(map(float, filter(None, cells))) if any(cells) else None


def _message_bytes(folder: Path, last: int, counted: Counted) -> int:
    """Return the bytes of Flower's messages around all packets up to the end of a round."""
    rows = _rows(folder, "packets.csv")
    return sum(
        int(row["message_bytes"])
        for row in rows
        if int(row["round"]) <= last and (counted == "both" or row["direction"] == counted)
    )


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
