"""A real deployment: a SuperLink runs the server app, SuperNodes on other machines the clients."""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedcomp import __version__
from fedcomp.engines.command import connected
from fedcomp.engines.reach import check_reach, split_address
from fedcomp.errors import EngineError, RunInterrupted
from fedcomp.report.events import EventReader
from fedcomp.runtime import EngineSettings, Hooks
from fedcomp.storage import save_json
from fedcomp.wire import keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.engines.command import FlwrCommand
    from fedcomp.settings import Job
    from fedcomp.setup import Setup

log = logging.getLogger(__name__)

_APP = f"""\
[project]
name = "fedcomp-job"
version = "{__version__}"
description = "Runs the installed fedcomp of this version"
license = {{ text = "Apache-2.0" }}

[tool.flwr.app]
publisher = "fedcomp"

[tool.flwr.app.components]
serverapp = "fedcomp_server:app"
clientapp = "fedcomp_client:app"

[tool.flwr.app.config]
{keys.RUN_CONFIG} = ""
"""

_SIDE = """\
from {package}.app import make_app

app = make_app()
"""

_LOST = 5
"""How often in a row a SuperLink may not answer before its run is given up."""

_PAUSE_SECONDS = 3.0

_TOLERANCE = 0.01

_PREFIX = "ServerApp failed with exception: "


@dataclass(frozen=True)
class SuperLinkEngine(EngineSettings):
    """Submit the job to a SuperLink and follow it.

    Parameters
    ----------
    address
        Host and port of the SuperLink.
    root_certificates
        File with the certificates that vouch for the SuperLink; without, plain HTTP.
    bind_sites
        Whether a site belongs to the key of the node that claimed it first, for the whole run.
        Without, another node may take it over while that one is away.
    """

    name: ClassVar[str] = "superlink"
    remote: ClassVar[bool] = True

    address: str = "127.0.0.1:8000"
    root_certificates: str | None = None
    bind_sites: bool = True
    start_timeout: float = 600.0

    @property
    def _certificates(self) -> Path | None:
        return Path(self.root_certificates).expanduser() if self.root_certificates else None

    def check(self) -> None:
        """Refuse an address at which no SuperLink answers."""
        check_reach(self.address, self._certificates)

    def run(self, job: Job, setup: Setup, hooks: Hooks) -> None:  # noqa: ARG002  built elsewhere
        """Run the job to its end, or raise."""
        with _shown_warnings(), connected(self.address, self._certificates) as flwr:
            host, _ = split_address(self.address)
            if self._certificates is None and not _is_here(host):
                log.warning(
                    "plain HTTP to %s: whoever is on the way can read and change everything; give"
                    " engine.root_certificates",
                    self.address,
                )
            run = flwr.submit(*_write_app(flwr.home / "app", job))
            log.info("Flower's run %s on %s", run, self.address)
            followed = _Followed(flwr, run, job, hooks)
            try:
                followed.watch()
            finally:
                followed.leave()


class _Followed:
    """A run on a SuperLink as its output and the SuperLink's own account tell it."""

    def __init__(self, flwr: FlwrCommand, run: str, job: Job, hooks: Hooks) -> None:
        self._flwr = flwr
        self._run = run
        self._folder = Path(job.folder)
        self._verbose = job.settings.verbose
        self._stop = hooks.stop
        self._reader = EventReader(hooks.observers, self._notice)
        self._summary: dict[str, Any] = {}
        self._place = ""
        self._state: dict[str, Any] = {}

    def watch(self) -> None:
        """Follow the run to its end; raise `EngineError` unless it is a good one."""
        missed = 0
        while not self._finished:
            self._read_log()  # ends with the run, or with the connection
            try:
                self._state = self._flwr.state(self._run)
                missed = 0
            except EngineError as error:
                missed += 1
                if missed == _LOST:
                    msg = f"the SuperLink does not answer any more: {error}"
                    raise EngineError(msg) from error
                time.sleep(_PAUSE_SECONDS)
        self._reader.end()
        status, details = self._state["status"], str(self._state.get("status-details", ""))
        if status != "finished:completed":
            if details.startswith(_PREFIX):
                raise EngineError(details.removeprefix(_PREFIX))
            what = "was stopped" if status == "finished:stopped" else "failed"
            msg = f"the run {what}: {details or 'no reason was given'}"
            raise EngineError(msg)

    def leave(self) -> None:
        """Stop the run unless it has ended, and keep what is known of it."""
        if not self._finished:
            with suppress(EngineError, KeyboardInterrupt):
                self._flwr.stop(self._run)
            if self._place:
                log.warning("what there is of the run lies in %s on the server", self._place)
        if self._summary:
            self._keep_summary()

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


def _is_here(host: str) -> bool:
    """Tell whether a host is this machine, so that nobody is on the way.

    Examples
    --------
    >>> _is_here("127.0.0.1"), _is_here("10.0.0.1")
    (True, False)
    """
    return host in ("localhost", "::1") or host.startswith("127.")


def _write_app(folder: Path, job: Job) -> tuple[Path, Path]:
    """Write the app that runs the installed packages, and the run config with the job."""
    place, here = Path(job.folder), Path.cwd()
    sent = replace(job, folder=str(place.relative_to(here) if here in place.parents else place))
    folder.mkdir()
    (folder / "pyproject.toml").write_text(_APP, encoding="utf-8")
    for side, package in (("server", "strategies"), ("client", "clients")):
        text = _SIDE.format(package=package)
        (folder / f"fedcomp_{side}.py").write_text(text, encoding="utf-8")
    config = folder.parent / "run.toml"
    line = f"{keys.RUN_CONFIG} = {json.dumps(sent.to_json())}\n"
    config.write_text(line, encoding="utf-8")
    return folder, config


@contextmanager
def _shown_warnings() -> Iterator[None]:
    """Show this module's warnings on the terminal too."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("fedcomp: %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
