"""Following a run on a SuperLink from afar, and what becomes of it when nobody follows any more."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.errors import EngineError, RunInterrupted
from fedcomp.report.events import EventReader
from fedcomp.storage import save_json

if TYPE_CHECKING:
    from fedcomp.engines.command import FlwrCommand
    from fedcomp.runtime import Hooks
    from fedcomp.settings import Job

log = logging.getLogger(__name__)

LOST = 5
"""How often in a row a SuperLink may not answer before it is left alone with its run."""

PAUSE_SECONDS = 3.0

_LOOKS = 2
"""How often the output of a run that has ended well is read again for the summary."""

_TOLERANCE = 0.01

_PREFIX = "ServerApp failed with exception: "


class Followed:
    """A run on a SuperLink as its output and the SuperLink's own account tell it."""

    def __init__(self, flwr: FlwrCommand, run: str, job: Job, hooks: Hooks, address: str) -> None:
        self._flwr = flwr
        self._address = address
        self._run = run
        self._folder = Path(job.folder)
        self._verbose = job.settings.verbose
        self._stop = hooks.stop
        self._reader = EventReader(hooks.observers, self._notice)
        self._summary: dict[str, Any] = {}
        self._place = ""
        self._state: dict[str, Any] = {}

    def follow(self) -> None:
        """Follow the run to its end; raise `EngineError` unless it is a good one.

        Whoever wants no more of it ends it.  A run that is merely out of sight goes on.
        """
        stopped = False
        try:
            if self._stop.is_set():  # while it was submitted
                raise RunInterrupted
            self._watch()
        except (KeyboardInterrupt, RunInterrupted):
            if not self._finished:
                stopped = True
                self._end()
            raise
        finally:
            if not self._finished:
                self._say_what_is_left(stopped=stopped)
            if self._summary:
                self._keep_summary()

    def _watch(self) -> None:
        missed = 0
        while not self._finished:
            self._read_log()  # ends with the run, or with the connection
            try:
                self._state = self._flwr.state(self._run)
                missed = 0
            except EngineError as error:
                missed += 1
                if missed == LOST:
                    msg = f"the SuperLink does not answer any more: {error}"
                    raise EngineError(msg) from error
                time.sleep(PAUSE_SECONDS)
        status, details = self._state["status"], str(self._state.get("status-details", ""))
        if status == "finished:completed":
            self._look_for_summary()
        self._reader.end()
        if status != "finished:completed":
            if details.startswith(_PREFIX):
                raise EngineError(details.removeprefix(_PREFIX))
            what = "was stopped" if status == "finished:stopped" else "failed"
            msg = f"the run {what}: {details or 'no reason was given'}"
            raise EngineError(msg)

    def _look_for_summary(self) -> None:
        """Read the output again if its last line was lost."""
        for _ in range(_LOOKS):
            if not self._summary:
                self._read_log()
        if not self._summary:
            log.warning(
                "the run has ended well, and its summary did not arrive: it lies in %s on the"
                " server",
                self._place or "the run folder",
            )

    def _end(self) -> None:
        """Stop the run; say so if that did not work."""
        try:
            self._flwr.stop(self._run)
        except (EngineError, KeyboardInterrupt) as error:
            log.warning(
                "Flower's run %s was not stopped (%s) and may still go on at %s: flwr stop %s",
                self._run,
                str(error) or "interrupted",
                self._address,
                self._run,
            )

    def _say_what_is_left(self, *, stopped: bool) -> None:
        if not stopped:
            log.warning(
                "Flower's run %s is left alone and may go on at %s: flwr stop %s ends it",
                self._run,
                self._address,
                self._run,
            )
        if self._place:
            log.warning("what there is of the run lies in %s on the server", self._place)

    @property
    def _finished(self) -> bool:
        return str(self._state.get("status", "")).startswith("finished")

    def _keep_summary(self) -> None:
        """Write the summary with the SuperLink's own account of the traffic beside ours."""
        self._summary["server_folder"] = self._place
        if traffic := self._state.get("network-traffic"):
            counted = {name: traffic[f"{name}-bytes"] for name in ("inbound", "outbound")}
            self._summary["superlink_counted_bytes"] = counted
            self._compare(sum(counted.values()))
        self._folder.mkdir(parents=True, exist_ok=True)
        save_json(self._summary, self._folder / "summary.json")

    def _read_log(self) -> None:
        with self._flwr.log(self._run) as process:
            try:
                for line in process.stdout or ():
                    if self._stop.is_set():
                        raise RunInterrupted
                    if not self._reader.read(line) and self._verbose:
                        print(line, end="")
            finally:
                process.kill()

    def _notice(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "warning":
            log.warning("server: %s", event["text"])
        elif kind == "summary":
            self._summary = event["summary"]
        elif kind == "folder":
            self._place = event["folder"]

    def _compare(self, counted: int) -> None:
        expected = sum(self._summary.get("superlink_bytes", {}).values())
        if expected and abs(counted - expected) > _TOLERANCE * expected:
            log.warning(
                "the SuperLink counted %d bytes, by our own account of the messages it should be"
                " %d: messages to nodes that died, or replies that nobody waited for, may be the"
                " difference",
                counted,
                expected,
            )
