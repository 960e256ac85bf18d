"""A run in a real deployment: checked on the server, told to whoever follows its output."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fedcomp.errors import DataError, EngineError, FedcompError, one_line
from fedcomp.report.events import EventWriter
from fedcomp.report.observer import Observer
from fedcomp.report.progress import Progress
from fedcomp.report.summary import closing, read_summary
from fedcomp.resume import alone
from fedcomp.runtime import Hooks, return_freed_memory
from fedcomp.setup import Setup
from fedcomp.wire import keys
from strategies.counted import CountedGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeAlias

    from flwr.serverapp import Grid

    from fedcomp.report.observer import RunStart
    from fedcomp.settings import Job

    Serve: TypeAlias = Callable[[Grid, Job, Setup, Hooks], None]

log = logging.getLogger(__name__)

SERVER_LOCK = ".server.lock"
"""Held while a server runs a job: the one before it may not have heard that its end is wanted."""

_WIDTH = 100


class Stored(Observer):
    """Writes the configuration that a run has begun, or goes on, with where commands look for it.

    The run has its folder alone then, and has found its checkpoint.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def on_start(self, start: RunStart) -> None:  # noqa: ARG002
        """Write the file."""
        config = import_module("fedcomp.config")
        config.store(Path(self._job.folder), dict(self._job.config))


class WarningEvents(logging.Handler):
    """Tells warnings to whoever follows the run, each as one line."""

    def __init__(self, events: EventWriter) -> None:
        super().__init__(logging.WARNING)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Write an event."""
        self._events.say("warning", text=one_line(record.getMessage()))


def deploy(
    grid: Grid,
    job: Job,
    run_config: Mapping[str, object],
    serve: Serve,
) -> None:
    """Run a job here, in a folder below the server's working directory unless it is absolute.

    Parameters
    ----------
    run_config
        With a whole job, somebody follows its events; with words of the command line, people read
        what it prints.
    """
    folder = Path.cwd() / Path(job.folder).expanduser()
    job = replace(job, folder=str(folder))
    _make(folder, job)
    followed = bool(run_config.get(keys.RUN_CONFIG))
    logging_to = import_module("fedcomp.engines.logs").logging_to
    with alone(folder, SERVER_LOCK), logging_to(folder / "run.log", verbose=True):
        if followed:
            _tell(grid, job, serve)
        else:
            _print(grid, job, serve)


def _tell(grid: Grid, job: Job, serve: Serve) -> None:
    """Run a job and write its events."""
    events, folder = EventWriter(sys.stdout.write), Path(job.folder)
    events.say("folder", folder=job.folder)  # before any client had a chance to have a say
    _hear(WarningEvents(events))
    with _summarised(folder, lambda: events.say("summary", summary=read_summary(folder))):
        _run(grid, job, serve, events)


def _print(grid: Grid, job: Job, serve: Serve) -> None:
    """Run a job and print what the command line would."""
    console, folder = Console(file=sys.stdout, width=_WIDTH), Path(job.folder)
    _hear(logging.StreamHandler(sys.stdout))
    with (
        _summarised(folder, lambda: console.print(closing(folder))),
        Progress(job.settings, console) as progress,
    ):
        _run(grid, job, serve, progress)


@contextmanager
def _summarised(folder: Path, say: Callable[[], None]) -> Iterator[None]:
    """Say how the run went if this process has come so far; the one before may have as well."""
    path = folder / "summary.json"
    before = _stamp(path)
    try:
        yield
    finally:
        if _stamp(path) != before:
            with suppress(DataError, OSError):  # why the run failed counts for more
                say()


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what is another one once a file was replaced."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _run(grid: Grid, job: Job, serve: Serve, observer: Observer) -> None:
    return_freed_memory()
    engine = job.settings.engine
    timeout = max(engine.start_timeout, engine.round_timeout)
    setup, counted = Setup(job.settings), CountedGrid(grid, timeout)
    try:
        setup.check(parts=False)
    except FedcompError as error:
        reason = "; ".join(str(error).splitlines())
        msg = f"on the server, in the folder {Path.cwd()}: {reason}"
        raise EngineError(msg) from error
    for line in setup.dataset.skipped:
        log.info("left out: %s", line)
    observers = [Stored(job), observer]
    serve(counted, job, setup, Hooks(observers, account=counted.account))


def _hear(handler: logging.Handler) -> None:
    """Give our own warnings to a handler, too, until `logging_to` puts back what was there."""
    handler.setLevel(logging.WARNING)
    for name in ("fedcomp", "strategies"):
        logging.getLogger(name).addHandler(handler)


def _make(folder: Path, job: Job) -> None:
    """Make the run folder, unless another run has left it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = (folder / "summary.json").exists() and not list(folder.glob("checkpoint/round-*"))
    except OSError as error:
        msg = f"the run folder {folder} cannot be written on the server: {error.strerror}"
        raise EngineError(msg) from error
    if others and not job.began:
        msg = f"{folder} holds a run already on the server; name another folder (hydra.run.dir)"
        raise EngineError(msg)
