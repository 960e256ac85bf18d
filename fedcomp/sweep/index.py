"""`sweep.csv`: all jobs that a sweep's folder has seen, a row each."""

from __future__ import annotations

import csv
import io
import sys
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from fedcomp.errors import DataError
from fedcomp.report.summary import metric_of, read_summary
from fedcomp.resume import can_go_on
from fedcomp.storage import save_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fedcomp.sweep.plan import Job

NAME = "sweep.csv"

_FIRST = ("folder", "status", "reason")
_COPIED = (
    "uplink_bytes",
    "downlink_bytes",
    "evaluation_bytes",
    "total_bytes",
    "compression_ratio",
    "failures",
    "wall_seconds",
    "network_seconds",
)
_NUMBERS = ("rounds_done", "metric", "final", "best", *_COPIED)
"""What the summary of a run says; the columns between these and the first ones are overrides."""


class Index:
    """The table of a sweep's folder, which other sweeps may write at the same time."""

    def __init__(self, parent: Path) -> None:
        self._path = parent / NAME
        self._said = False
        self._lock = FileLock(parent / f".{NAME}.lock")

    def begin(self, jobs: Iterable[tuple[Job, Path]]) -> None:
        """Add the jobs that are not there; those of which something is there keep their status."""
        with self._lock:
            rows = self._read()
            for name, row in rows.items():
                if row.get("status") == "running" and not self._is_running(name):
                    row["status"] = status_of(self._path.parent / name)
            for job, folder in jobs:
                row, before = _row(job, folder, status_of(folder)), rows.get(folder.name, {})
                kept = before.get("status") in ("failed", "running")
                if kept and row["status"] != "finished":
                    row |= {name: before.get(name, "") for name in ("status", "reason")}
                rows[folder.name] = row
            self._write(rows)

    def put(self, job: Job, folder: Path, status: str, reason: str = "") -> None:
        """Write how a job is now."""
        with self._lock:
            rows = self._read()
            rows[folder.name] = {**_row(job, folder, status), "reason": reason}
            self._write(rows)

    def _is_running(self, name: str) -> bool:
        """Tell whether somebody runs the job of a folder of this name."""
        try:
            with lock_of(name.rpartition("-")[2], self._path.parent):
                return False
        except Timeout:
            return True

    def _read(self) -> dict[str, dict[str, str]]:
        """Return the rows by folder; what is no such table counts for nothing."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        found = csv.DictReader(io.StringIO(text, newline=""), restval="")
        rows = {row.get("folder", ""): row for row in found if None not in row}
        rows.pop("", None)
        return rows

    def _write(self, rows: dict[str, dict[str, str]]) -> None:
        known = dict.fromkeys(key for row in rows.values() for key in row)
        overrides = [key for key in known if key not in (*_FIRST, *_NUMBERS)]
        text = io.StringIO(newline="")
        columns = (*_FIRST, *overrides, *_NUMBERS)
        table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows.values())
        try:
            save_text(text.getvalue(), self._path)
        except OSError as error:  # the runs themselves go on as long as they can
            if not self._said:
                print(f"fedcomp: {self._path} cannot be written: {error}", file=sys.stderr)
            self._said = True


def lock_of(key: str, parent: Path) -> FileLock:
    """Return what whoever runs the job of a key holds; it goes with the process."""
    return FileLock(parent / f".{key}.lock", timeout=0)


def status_of(folder: Path) -> str:
    """Return how far a job is that nobody runs: planned, stopped or finished."""
    try:
        return "finished" if read_summary(folder)["status"] == "finished" else "stopped"
    except (DataError, OSError):
        return "stopped" if can_go_on(folder) else "planned"


def _row(job: Job, folder: Path, status: str) -> dict[str, str]:
    row = {"folder": folder.name, "status": status, "reason": "", **job.values}
    try:
        summary = read_summary(folder)
        metric, final = metric_of(summary)
    except (DataError, OSError):
        return row
    numbers = {name: summary.get(name) for name in _COPIED}
    numbers |= {"rounds_done": summary["rounds"], "metric": metric, "final": final}
    numbers["best"] = summary.get(f"best_{metric}")
    return row | {name: "" if value is None else str(value) for name, value in numbers.items()}
