"""TensorBoard: a file of events for each process of a run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedcomp.report.trackers.base import TrackedRun, Tracker, TrackerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMAT = "brain.Event:2"


@dataclass(frozen=True)
class TensorBoard(TrackerSettings):
    """Write events for `tensorboard --logdir`.

    Parameters
    ----------
    dir
        Where the folders of runs lie; by default each is in its run folder.
    """

    name: ClassVar[str] = "tensorboard"
    package: ClassVar[str] = "tensorboard"

    dir: str | None = None

    def create(self) -> Tracker:
        """Return the writer."""
        return _Writer(self.dir)


class _Writer(Tracker):
    """Writes an event a round, with all of its numbers."""

    def __init__(self, parent: str | None) -> None:
        self._parent = parent

    def start(self, run: TrackedRun) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        place = run.folder / "tensorboard"
        if self._parent is not None:
            place = Path(self._parent).expanduser() / f"{run.name}-{run.run_id[:8]}"
        self._writer = EventFileWriter(str(place))
        # Readers drop what earlier files say of this round and later ones.
        self._write(run.resumed, file_version=_FORMAT)
        self._write(run.resumed, session_log=SessionLog(status=SessionLog.START))

    def log(self, round_number: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        found = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(round_number, summary=Summary(value=found))
        self._writer.flush()

    def end(self, summary: Mapping[str, Any]) -> None:  # noqa: ARG002  no chart shows it
        self._writer.close()

    def _write(self, step: int, **what: object) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(step=step, wall_time=time.time(), **what))
