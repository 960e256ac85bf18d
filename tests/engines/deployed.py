"""A SuperLink and SuperNodes on this machine: free ports, and nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from fedcomp.engines.command import OFFLINE

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """Processes of a deployment in a folder; `with` ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._all: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            **OFFLINE,
            "FLWR_HOME": str(folder / "flwr"),
            "PYTHONPATH": str(ROOT),
        }

    def __enter__(self) -> Self:
        port = self.address.rpartition(":")[2]
        self._start("superlink", "flower-superlink", "--insecure", "--port", port)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", int(port)), 1).close()
                return self
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        raise AssertionError(self.log("superlink"))

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            self._end(process)

    def node(self, name: str, **config: object) -> None:
        """Start a SuperNode; its state goes below the folder unless it says where."""
        given = {"state-dir": str(self.folder / name / "state")}
        given |= {key.replace("_", "-"): value for key, value in config.items()}  # type: ignore[misc]
        words = " ".join(f"{key}={json.dumps(value)}" for key, value in given.items())
        self.nodes[name] = self._start(
            name,
            *("flower-supernode", "--insecure", "--superlink", self.address),
            *("--port", str(free_port()), "--node-config", words),
        )

    def kill(self, name: str) -> None:
        """Kill a node and all that it has started, at once."""
        self._end(self.nodes.pop(name))

    def log(self, name: str) -> str:
        """Return the end of what a process has printed."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-5000:]

    def _start(self, name: str, command: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(BIN / command), *words],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._all.append(process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        """Kill a process and all that it has started, even where it is dead itself."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
