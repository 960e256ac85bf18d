"""A real deployment: a SuperLink runs the server app, SuperNodes on other machines the clients."""

from __future__ import annotations

import ipaddress
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from fedcomp import __version__
from fedcomp.engines.command import connected
from fedcomp.engines.following import Followed
from fedcomp.engines.logs import on_terminal
from fedcomp.engines.reach import check_reach, split_address
from fedcomp.runtime import EngineSettings, Hooks
from fedcomp.signals import held_back
from fedcomp.wire import keys

if TYPE_CHECKING:
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
    start_timeout: Annotated[float, Gt(0)] = 600.0

    @property
    def _certificates(self) -> Path | None:
        return Path(self.root_certificates).expanduser() if self.root_certificates else None

    def check(self) -> None:
        """Refuse an address at which no SuperLink answers."""
        check_reach(self.address, self._certificates)

    def run(self, job: Job, setup: Setup, hooks: Hooks) -> None:  # noqa: ARG002  built elsewhere
        """Run the job to its end, or raise."""
        warnings = on_terminal(__package__, logging.WARNING)
        with warnings, connected(self.address, self._certificates) as flwr:
            host, _ = split_address(self.address)
            if self._certificates is None and not _is_here(host):
                log.warning(
                    "plain HTTP to %s: whoever is on the way can read and change everything; give"
                    " engine.root_certificates",
                    self.address,
                )
            app = _write_app(flwr.home / "app", job)
            with held_back(hooks.stop):  # or it might run, and nobody would know its name
                run = flwr.submit(*app)
            log.info("Flower's run %s on %s", run, self.address)
            Followed(flwr, run, job, hooks, self.address).follow()


def _is_here(host: str) -> bool:
    """Tell whether a host is this machine, so that nobody is on the way.

    Examples
    --------
    >>> _is_here("127.0.0.1"), _is_here("10.0.0.1"), _is_here("127.example.org")
    (True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _write_app(folder: Path, job: Job) -> tuple[Path, Path]:
    """Write the app that runs the installed packages, and the run config with the job."""
    sent = replace(job, folder=job.server_folder or job.folder, server_folder="")
    folder.mkdir()
    (folder / "pyproject.toml").write_text(_APP, encoding="utf-8")
    for side, package in (("server", "strategies"), ("client", "clients")):
        text = _SIDE.format(package=package)
        (folder / f"fedcomp_{side}.py").write_text(text, encoding="utf-8")
    config = folder.parent / "run.toml"
    line = f"{keys.RUN_CONFIG} = {json.dumps(sent.to_json())}\n"
    config.write_text(line, encoding="utf-8")
    return folder, config
