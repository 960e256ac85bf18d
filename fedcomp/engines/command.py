"""Flower's command `flwr`, of the same Python environment, against one SuperLink."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.engines.reach import split_address
from fedcomp.errors import EngineError, one_line
from fedcomp.wire import private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""Keeps Flower from asking anybody in the network but the SuperLink."""

_NO_PROXY = ("no_proxy", "NO_PROXY")

_PROGRESS = ("Using SuperLink", "Displaying information", "Stopping run")
"""How lines begin that say what it is about to do; its errors come after them."""

_CONNECTION = "fedcomp"
_SECONDS = 120.0


@dataclass(frozen=True)
class FlwrCommand:
    """Runs `flwr` with a configuration of its own, which knows one SuperLink."""

    home: Path
    host: str = ""

    def call(self, *words: str) -> dict[str, Any]:
        """Return what a command says in JSON; raise `EngineError` with its reason if it fails."""
        shown = f"flwr {words[0]}"
        try:
            done = subprocess.run(
                [*_flwr(), *words, "--format", "json"],
                env=self._environment(),
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=_SECONDS,
                start_new_session=True,  # Ctrl-C is for this process to handle
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            msg = f"{shown}: no answer within {_SECONDS:g} s"
            if words[0] == "run":
                msg += "; the job may run all the same: flwr list shows it, flwr stop ends it"
            raise EngineError(msg) from error
        start = done.stdout.find("{")
        try:
            found: dict[str, Any] = json.loads(done.stdout[start:] if start >= 0 else "")
        except ValueError as error:
            lines = (done.stderr or done.stdout).strip().splitlines()
            msg = f"{shown} failed: {lines[-1] if lines else f'exit code {done.returncode}'}"
            raise EngineError(msg) from error
        if not found.get("success"):
            lines = str(found.get("error-message", "no reason was given")).splitlines()
            said = [line.strip() for line in lines if not line.strip().startswith(_PROGRESS)]
            msg = f"{shown} failed: {one_line(' '.join(said))}"
            raise EngineError(msg)
        return found

    def submit(self, app: Path, config: Path) -> str:
        """Start a run of the app in a folder; return Flower's id of it."""
        found = self.call("run", str(app), _CONNECTION, "--run-config", str(config))
        return str(found["run-id"])

    def state(self, run: str) -> dict[str, Any]:
        """Return what the SuperLink says of a run."""
        (found,) = self.call("ls", _CONNECTION, "--run-id", run)["runs"]
        return dict(found)

    def stop(self, run: str) -> None:
        """End a run."""
        self.call("stop", run, _CONNECTION)

    def log(self, run: str) -> subprocess.Popen[str]:
        """Return the process that prints what the server app prints, to the end of the run."""
        return subprocess.Popen(
            [*_flwr(), "log", run, _CONNECTION, "--stream"],
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        ours = {"FLWR_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}
        return {**direct(os.environ, self.host), **OFFLINE, **ours}


def direct(environment: Mapping[str, str], host: str) -> dict[str, str]:
    """Return an environment in which no proxy stands before a host.

    Examples
    --------
    >>> direct({"NO_PROXY": "a.org"}, "b.org")["no_proxy"]
    'a.org,b.org'
    """
    before = next((environment[name] for name in _NO_PROXY if environment.get(name)), "")
    hosts = ",".join(filter(None, [before, host]))
    return {**environment, **dict.fromkeys(_NO_PROXY, hosts)}


@contextmanager
def connected(address: str, certificates: Path | None) -> Iterator[FlwrCommand]:
    """Provide the command, with a configuration that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fedcomp-") as folder:
        quoted = json.dumps(str(certificates.absolute())) if certificates else ""
        how = f"root-certificates = {quoted}" if certificates else "insecure = true"
        lines = (
            "[superlink]",
            f'default = "{_CONNECTION}"',
            f"[superlink.{_CONNECTION}]",
            f"address = {json.dumps(address)}",
            how,
        )
        (Path(folder) / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield FlwrCommand(Path(folder), split_address(address)[0])


def _flwr() -> list[str]:
    """Return the command of this environment, be it on the path or not."""
    path = Path(sys.executable).parent / "flwr"
    if path.exists():
        return [str(path)]
    return [sys.executable, "-c", private.COMMAND]
