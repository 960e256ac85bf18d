"""A run in a real deployment: checked on the server, told to whoever follows its output."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fedcomp.errors import EngineError, FedcompError, one_line
from fedcomp.report.events import EventWriter
from fedcomp.report.progress import Progress
from fedcomp.report.summary import closing, read_summary
from fedcomp.resume import alone
from fedcomp.runtime import Hooks, return_freed_memory
from fedcomp.setup import Setup
from fedcomp.wire import keys
from strategies.counted import CountedGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from flwr.serverapp import Grid

    from fedcomp.report.observer import Observer
    from fedcomp.settings import Job

    Serve: TypeAlias = Callable[[Grid, Job, Setup, Hooks], None]

log = logging.getLogger(__name__)

SERVER_LOCK = ".server.lock"
"""Held while a server runs a job: the one before it may not have heard that its end is wanted."""

_WIDTH = 100


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
    try:
        _run(grid, job, serve, events)
    finally:
        if (folder / "summary.json").exists():
            events.say("summary", summary=read_summary(folder))


def _print(grid: Grid, job: Job, serve: Serve) -> None:
    """Run a job and print what the command line would."""
    console, folder = Console(file=sys.stdout, width=_WIDTH), Path(job.folder)
    _hear(logging.StreamHandler(sys.stdout))
    try:
        with Progress(job.settings, console) as progress:
            _run(grid, job, serve, progress)
    finally:
        if (folder / "summary.json").exists():
            console.print(closing(folder))


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
    serve(counted, job, setup, Hooks([observer], account=counted.account))


def _hear(handler: logging.Handler) -> None:
    """Give our own warnings to a handler, too, until `logging_to` puts back what was there."""
    handler.setLevel(logging.WARNING)
    for name in ("fedcomp", "strategies"):
        logging.getLogger(name).addHandler(handler)


def _make(folder: Path, job: Job) -> None:
    """Make the run folder, with the configuration that other commands look for in it."""
    config = import_module("fedcomp.config")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stored = folder / ".hydra" / "config.yaml"
        if not stored.exists():
            stored.parent.mkdir(exist_ok=True)
            stored.write_text(config.as_yaml(dict(job.config)), encoding="utf-8")
    except OSError as error:
        msg = f"the run folder {folder} cannot be written on the server: {error.strerror}"
        raise EngineError(msg) from error
