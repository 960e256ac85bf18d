"""Runs as their folders tell them, finished or not: summary.json and rounds.csv, never packets."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import DataError
from fedcomp.report.columns import BITS, PARTS, SENT
from fedcomp.report.summary import metric_of, read_summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fedcomp.tensors import Array

SECONDS = "network_seconds"

_READ = ("round", *SENT, *PARTS, *BITS, SECONDS)
_NO_RUNS = ("checkpoint", ".hydra")


@dataclass(frozen=True)
class Run:
    """One run as far as it is.

    Attributes
    ----------
    metric
        What the run is judged by.
    columns
        Those of rounds.csv that a report needs, from round 0 on; NaN where a cell is empty.
    """

    folder: Path
    summary: Mapping[str, Any]
    metric: str
    columns: Mapping[str, Array]

    @property
    def method(self) -> str:
        """The name under which the run is reported."""
        return str(self.summary["method"])

    @property
    def is_finished(self) -> bool:
        """Whether all rounds are there."""
        return bool(self.summary["status"] == "finished")

    @property
    def rounds(self) -> int:
        """The number of the last round."""
        return len(self.scores) - 1

    @property
    def scores(self) -> Array:
        """The metric after each round."""
        return self.columns[self.metric]

    @property
    def sent(self) -> Array:
        """All bytes up to the end of each round: both ways, evaluation included."""
        up, down, evaluation = (self.columns[name] for name in SENT)
        return (up + down + evaluation).cumsum()

    @property
    def seconds(self) -> Array | None:
        """Seconds on the simulated network up to the end of each round; None without one."""
        found = self.columns[SECONDS]
        return None if np.isnan(found).all() else np.nan_to_num(found).cumsum()

    def reached(self, target: float) -> int | None:
        """Return the first round whose model reaches a target."""
        there = np.flatnonzero(self.scores >= target)
        return int(there[0]) if there.size else None


def find_folders(place: Path) -> list[Path]:
    """Return the folders of runs at or below a place, also of those that have only begun."""
    found = []
    for folder, inner, files in os.walk(place):
        if "summary.json" in files or ".hydra" in inner:
            found.append(Path(folder))
        inner[:] = [name for name in inner if name not in _NO_RUNS]
    return sorted(found)


def all_folders(places: Iterable[Path]) -> list[Path]:
    """Return the folders of runs at or below some places, each once."""
    found: dict[Path, Path] = {}
    for place in places:
        there = find_folders(place)
        if not there:
            read_summary(place)  # says what is wrong
        for folder in there:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Return the runs in some folders, and a line for each that has no round to show."""
    read = {folder: read_run(folder) for folder in folders}
    runs = [run for run in read.values() if run is not None]
    return runs, [_left_out(folder) for folder, run in read.items() if run is None]


def _left_out(folder: Path) -> str:
    if (folder / "summary.json").is_file() and (place := read_summary(folder).get("server_folder")):
        return f"{folder}: left out, its rounds.csv is on the server, in {place}"
    return f"{folder}: left out, no round has ended yet"


def read_run(folder: Path) -> Run | None:
    """Read a run, up to the last row that is whole; None before its first round has ended."""
    path = folder / "rounds.csv"
    begun = (folder / ".hydra").is_dir() or path.is_file()
    if begun and not (folder / "summary.json").is_file():
        return None
    summary = read_summary(folder)
    try:
        metric = metric_of(summary)[0]
        _check(summary, metric)
    except (TypeError, ValueError, AttributeError) as error:
        msg = f"{folder / 'summary.json'} is not a summary of a run: {error}"
        raise DataError(msg) from error
    try:
        columns = _columns(path.read_bytes(), (*_READ, metric))
    except FileNotFoundError:
        columns = {}
    except (OSError, LookupError, ValueError, csv.Error) as error:
        msg = f"{path} is not the table of a run: {error}"
        raise DataError(msg) from error
    return Run(folder, summary, metric, columns) if columns else None


def _columns(data: bytes, names: Sequence[str]) -> dict[str, Array]:
    """Return columns of a table that somebody may still be writing to."""
    text = data[: data.rfind(b"\n") + 1].decode()
    header, *rows = csv.reader(io.StringIO(text)) if text else [[]]
    if not rows:
        return {}
    if missing := set(names) - set(header):
        msg = f"the column {min(missing)} is missing"
        raise ValueError(msg)
    chosen = zip(*map(itemgetter(*(header.index(name) for name in names)), rows), strict=True)
    found = {
        name: np.array([float(cell) if cell else np.nan for cell in cells])
        for name, cells in zip(names, chosen, strict=True)
    }
    if list(found.pop("round")) != list(range(len(rows))):
        msg = "its rounds are not 0, 1, 2, …"
        raise ValueError(msg)
    return found


def _check(summary: Mapping[str, Any], metric: str) -> None:
    """Raise unless figures that a report shows are some."""
    figures = ["wall_seconds", "uplink_bytes", "downlink_bytes", "evaluation_bytes", "failures"]
    optional = ["compression_ratio", *BITS, "model_packed_bytes", "model_bytes", SECONDS]
    for name in [*figures, *(name for name in optional if summary.get(name) is not None)]:
        if isinstance(summary[name], bool) or not isinstance(summary[name], int | float):
            msg = f"{name} is no number"
            raise TypeError(msg)
    for name in ("bytes_to_target", "versions"):
        if not isinstance(summary.get(name, {}), dict):
            msg = f"{name} is no object"
            raise TypeError(msg)
    float(summary[f"final_{metric}"])
    for target in summary.get("bytes_to_target", {}):
        float(target)
