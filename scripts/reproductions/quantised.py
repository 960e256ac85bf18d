"""What the ways to quantise a net came to: as JSON, and as a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fedcomp.report.comparison.results import Cell, Column
from fedcomp.report.units import NOTHING, duration, megabytes
from scripts.reproductions.results import times_fewer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from scripts.reproductions.plan import Job
    from scripts.reproductions.results import Results

COUNTED = "model"
"""What is counted of a quantised net, in the place of bytes that are sent."""

_ALIKE = {"case": "", "status": "finished", "target": None}


def collect(jobs: Iterable[Job], folder: Path) -> dict[str, Any]:
    """Return the figures of all quantised nets that are there, the net they were made of first."""
    jobs = list(jobs)
    words = {job.folder: " ".join(job.words) for job in jobs}
    found = {job: folder / job.folder / "quantise.json" for job in jobs if job.after is not None}
    read = {
        job: json.loads(file.read_text(encoding="utf-8"))
        for job, file in found.items()
        if file.is_file()
    }
    runs = [_entry(job, figures) for job, figures in read.items()]
    if read:
        job, figures = next(iter(read.items()))
        whole, metric = figures["float_bytes"], figures["metric"]
        before = figures["before"]["test"][metric]
        net = {"run": job.after, "words": words[job.after or ""]}
        runs.insert(0, {**_ALIKE, **net, "final": before, "bytes": whole, "ratio": 1.0})
    metrics = [figures["metric"] for figures in read.values()]
    return {
        "field": {},
        "metric": metrics[0] if metrics else "",
        "counted": COUNTED,
        "runs": runs,
    }


def _entry(job: Job, figures: Results) -> dict[str, Any]:
    return {
        **_ALIKE,
        "run": job.run,
        "words": " ".join(job.words),
        "final": figures["after"]["test"][figures["metric"]],
        "bytes": figures["bytes"],
        "ratio": figures["ratio"],
        "zeros": figures["sparsity"],
        "bits_per_weight": figures["bits_per_weight"],
        "seconds": figures["seconds"],
    }


def columns(results: Results) -> list[Column]:
    """Return a table: a row a net."""
    runs = results["runs"]

    def column(title: str, key: str, text: Callable[[float], str]) -> Column:
        values = [entry.get(key) for entry in runs]
        cells = (Cell(NOTHING if v is None else text(v), (v,)) for v in values)
        return Column(title, (key,), tuple(cells))

    return [
        Column("method", ("run",), tuple(Cell(entry["run"], (entry["run"],)) for entry in runs)),
        column(results["metric"], "final", "{:.4f}".format),
        column("size", "bytes", megabytes),
        column("ratio", "ratio", times_fewer),
        column("zeros", "zeros", "{:.1%}".format),
        column("bits/weight", "bits_per_weight", "{:.2f}".format),
        column("time", "seconds", duration),
    ]
