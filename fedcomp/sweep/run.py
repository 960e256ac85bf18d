"""Running a sweep: what has finished stays, what was cut off goes on, a failure stops nothing."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout
from rich.console import Console

from fedcomp.commands import wide_console
from fedcomp.config import run_folder
from fedcomp.errors import DataError
from fedcomp.report.summary import metric_of, read_summary, table_of
from fedcomp.report.units import duration, megabytes
from fedcomp.resume import alone, can_go_on
from fedcomp.sweep.child import OUTPUT, Child, stop
from fedcomp.sweep.index import NAME, Index, status_of
from fedcomp.sweep.plan import plan
from fedcomp.sweep.view import View

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from fedcomp.sweep.plan import Job, Plan

_PAUSE_SECONDS = 0.1


def sweep(overrides: list[str]) -> int:
    """Run all jobs that have not finished, show all that are there, and return how many failed."""
    planned = plan(overrides)
    planned.folder.mkdir(parents=True, exist_ok=True)
    made, jobs = _Sweep(planned), len(planned.jobs)
    try:
        made.run()
    except KeyboardInterrupt:
        finished = made.show()
        print(f"{finished} of {jobs} jobs have finished, the same command goes on")
        raise
    made.show()
    place = planned.folder
    print(f"\n{place / NAME} lists all runs; this compares them:")
    print(f"fedcomp-report {shlex.quote(str(place))}", flush=True)
    if made.failed:
        print(f"fedcomp: {len(made.failed)} of {jobs} jobs failed", file=sys.stderr)
    for job, reason in made.failed.items():
        print(f"fedcomp: {job.label}: {reason}", file=sys.stderr)
    return len(made.failed)


@dataclass(frozen=True)
class _Running:
    """A job, and what it holds while it runs."""

    job: Job
    folder: Path
    child: Child
    lock: BaseFileLock

    def close(self) -> None:
        """Let go of it."""
        self.child.close()
        self.lock.release()


class _Sweep:
    """The jobs of a sweep that wait, that run, and that have failed."""

    def __init__(self, planned: Plan) -> None:
        self.failed: dict[Job, str] = {}
        self._parent, self._parallel = planned.folder, planned.parallel
        self._titles = {
            job: f"job {number} of {len(planned.jobs)}: {job.label}"
            for number, job in enumerate(planned.jobs, 1)
        }
        self._waiting = list(planned.jobs)
        self._running: list[_Running] = []
        self._told: set[Job] = set()
        self._view = View(Console(), live=planned.parallel > 1)
        self._index = Index(planned.folder)

    def run(self) -> None:
        """Run all jobs to their ends; what ends this early ends those that run."""
        with self._view:
            try:
                self._index.begin((job, job.folder(self._parent)) for job in self._waiting)
                while self._waiting or self._running:
                    self._begin()
                    self._view.show(
                        (self._titles[one.job], one.child.last_line()) for one in self._running
                    )
                    time.sleep(_PAUSE_SECONDS if self._waiting or self._running else 0)
                    self._end()
            except BaseException:
                stop(one.child for one in self._running)
                for one in self._running:
                    self._index.put(one.job, one.folder, status_of(one.folder))
                    one.close()
                raise

    def show(self) -> int:
        """Print the table of all jobs that have results; return how many have finished."""
        states = {folder: status_of(folder) for folder in map(self._folder, self._titles)}
        there = [folder for folder in states if _result(folder)]
        if there:
            print()
            wide_console().print(table_of(there))
        return list(states.values()).count("finished")

    def _folder(self, job: Job) -> Path:
        return job.folder(self._parent)

    def _begin(self) -> None:
        """Start jobs while there is room; what somebody else runs has to wait."""
        for job in list(self._waiting):
            if len(self._running) == self._parallel:
                return
            try:
                settled = self._start(job)
            except OSError as error:
                settled = True
                self._fail(job, self._folder(job), str(error))
            if settled:
                self._waiting.remove(job)

    def _start(self, job: Job) -> bool:
        """Start a job unless it has finished; return whether it has not to wait."""
        lock = job.lock(self._parent)
        try:
            lock.acquire()
        except Timeout:
            self._tell_once(job, "another sweep runs it, waiting for that")
            return False
        try:
            folder, title = self._folder(job), self._titles[job]
            if status_of(folder) == "finished":
                self._view.say(f"{title}: finished before, in {folder}")
                if job in self._told:
                    self._index.put(job, folder, "finished")
                lock.release()
                return True
            if _is_busy(folder):
                self._tell_once(job, f"another process is at {folder}, waiting for that")
                lock.release()
                return False
            if not self._view.is_live:
                self._view.say(title)
            child = Child([*_command(), *self._words(job, folder)], folder, self._parallel)
        except BaseException:
            lock.release()
            raise
        self._running.append(_Running(job, folder, child, lock))
        self._index.put(job, folder, "running")
        return True

    def _words(self, job: Job, folder: Path) -> tuple[str, ...]:
        """Return the words of a run that begins in a folder or goes on there."""
        if folder.exists():
            if can_go_on(folder):
                self._view.say(f"{folder} holds a run that did not finish; it goes on")
                return (f"resume={folder}",)
            self._view.say(
                f"{folder} holds a run that did not finish; it is removed and begins anew"
            )
            shutil.rmtree(folder)
        return (*job.words, run_folder(folder))

    def _end(self) -> None:
        """Let go of the jobs that have ended."""
        for one in list(self._running):
            if (code := one.child.poll()) is None:
                continue
            self._running.remove(one)
            if code:
                self._fail(one.job, one.folder, one.child.reason(code))
            else:
                self._index.put(one.job, one.folder, status_of(one.folder))
                if self._parallel > 1:
                    self._view.say(f"{self._titles[one.job]}: {_result(one.folder)}")
            one.close()

    def _fail(self, job: Job, folder: Path, reason: str) -> None:
        """Keep why a job failed, and where more about it is."""
        self._index.put(job, folder, "failed", reason)
        log, output = folder / "run.log", folder / OUTPUT
        if self._parallel == 1:
            more = f", see the messages above{f' and {log}' if log.exists() else ''}"
        else:
            self._view.say(f"{self._titles[job]}: failed: {reason}")
            more = f", see {output}" if output.exists() else ""
        self.failed[job] = reason + more

    def _tell_once(self, job: Job, why: str) -> None:
        if job not in self._told:
            self._told.add(job)
            self._view.say(f"{self._titles[job]}: {why}")


def _is_busy(folder: Path) -> bool:
    """Tell whether a process is at the run in a folder, such as one that outlived its sweep."""
    if not (folder / "checkpoint").is_dir():
        return False
    try:
        with alone(folder):
            return False
    except DataError:
        return True


def _result(folder: Path) -> str:
    """Return how a run ended, in a few words; nothing where it has no summary."""
    try:
        summary = read_summary(folder)
    except (DataError, OSError):
        return ""
    metric, value = metric_of(summary)
    cells = [
        f"{summary['status']}: {metric} {value:.4f}",
        megabytes(summary["uplink_bytes"] + summary["downlink_bytes"]),
        duration(summary["wall_seconds"]),
    ]
    return "  ".join(cells)


def _command() -> list[str]:
    """Return what starts this very package; the current folder is no place for others."""
    here = Path(__file__).parents[2] == Path.cwd()
    return [sys.executable, *([] if here else ["-P"]), "-m", "fedcomp"]
