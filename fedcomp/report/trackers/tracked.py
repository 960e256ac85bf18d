"""What stands between a run and its tracker, so that no failure of this one reaches the run."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from fedcomp.errors import DataError, one_line
from fedcomp.report.observer import Observer
from fedcomp.report.summary import read_summary
from fedcomp.report.trackers.base import TrackedRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.report.observer import RoundResult, RunStart
    from fedcomp.settings import Job
    from fedcomp.tensors import Tensors

log = logging.getLogger(__name__)

_ROW_BYTES = 16_384
"""More than any row has."""

PATIENCE_SECONDS = 30.0
"""How long a tracker may take at the end for what it has not taken yet."""

HURRY_SECONDS = 3.0
"""The same where somebody has stopped the run and waits."""


class Tracked(Observer):
    """An observer that tells a tracker of a run, in a thread of its own, until it first fails.

    It comes after the run folder: what it tells of a round is the row that this has just written.

    Parameters
    ----------
    stop
        Set where the run is to end at once.
    """

    def __init__(self, job: Job, stop: Event) -> None:
        self._job = job
        self._stop = stop
        self._folder = Path(job.folder)
        self._tracker = job.settings.tracker
        self._rounds: SimpleQueue[tuple[int, dict[str, float]] | None] = SimpleQueue()
        self._summary: Mapping[str, Any] = {}
        self._given_up = False
        self._thread: Thread | None = None

    def on_start(self, start: RunStart) -> None:
        """Begin to tell."""
        self._ledger = start.ledger
        run = TrackedRun(self._job.config, self._folder, self._job.run_id, start.resumed)
        self._thread = Thread(target=self._tell, args=(run,), daemon=True, name="tracker")
        self._thread.start()

    def on_round(self, result: RoundResult) -> None:
        """Hand on the numbers of a round, without waiting."""
        if self._given_up or self._thread is None or not self._thread.is_alive():
            return  # there is no tracker, or no more
        try:
            self._rounds.put((result.round, self._values()))
        except (OSError, ValueError) as error:
            self._give_up(error)

    def on_end(self, model: Tensors) -> None:  # noqa: ARG002
        """Hand on the summary, and wait for the tracker, though not for ever."""
        if self._thread is None or not self._thread.is_alive():
            return
        try:
            self._summary = read_summary(self._folder)
        except (DataError, OSError) as error:
            log.info("the tracker gets no summary: %s", error)  # there was no round
        self._rounds.put(None)
        seconds = HURRY_SECONDS if self._stop.is_set() else PATIENCE_SECONDS
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._give_up(TimeoutError(f"it is still at work {seconds:g} s after the run's end"))

    def _tell(self, run: TrackedRun) -> None:
        try:
            tracker = self._tracker.create()
            if tracker is None:
                return
            tracker.start(run)
            while (row := self._rounds.get()) is not None:
                tracker.log(*row)
            tracker.end(self._summary)
        except (Exception, SystemExit) as error:  # whatever other people's code comes up with
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Say so, once."""
        if not self._given_up:
            self._given_up = True
            why = one_line(f"{type(error).__name__}: {error}")
            log.warning("tracker=%s fails, the run goes on without it: %s", self._tracker.name, why)

    def _values(self) -> dict[str, float]:
        with (self._folder / "rounds.csv").open("rb") as file:
            header = file.readline()
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _ROW_BYTES, 0))
            row = file.read().splitlines()[-1]
        names, cells = csv.reader([header.decode(), row.decode()])
        pairs = zip(names, cells, strict=True)
        values = {name: float(cell) for name, cell in pairs if cell and name != "round"}
        values["total_bytes"] = float(self._ledger.total_bytes)
        if self._ledger.compression_ratio is not None:
            values["compression_ratio"] = self._ledger.compression_ratio
        return values
