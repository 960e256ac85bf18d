"""Processes that serve: watched by what they print, and ended with all that they started."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from fedcomp.errors import FedcompError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_POLL_SECONDS = 0.1
_START_SECONDS = 120.0
_STOP_SECONDS = 8.0
_ATTEMPTS = 5
_TAIL_LINES = 20
_TAKEN = "address already in use"


class ProcessError(FedcompError):
    """A process of a deployment did not do what it should."""


class Process:
    """A command that runs in a session of its own, and the file of what it prints."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str], work: Path
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self._start = file.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                cwd=work,
                start_new_session=True,  # Ctrl-C goes to whoever stops them in order
            )

    @property
    def text(self) -> str:
        """What it has printed so far."""
        with self.log.open("rb") as file:
            file.seek(self._start)
            return file.read().decode(errors="replace")

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def comes_up(self, sign: str) -> bool:
        """Wait until it prints `sign`, or has ended without."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            running = self.running
            if sign in self.text:
                return True
            if not running:
                return False
            if time.monotonic() > deadline:
                raise ProcessError(self._said(f"has not printed {sign!r} in {_START_SECONDS:g} s"))
            time.sleep(_POLL_SECONDS)

    def failure(self) -> ProcessError:
        """Return the error that says how it has ended."""
        return ProcessError(self._said(f"has ended with {self._process.wait()}"))

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def stop(self) -> None:
        """End it in good order, and whatever of it is left after some seconds."""
        theirs = self._descendants()
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self._end([*theirs, *self._descendants()])

    def kill(self) -> None:
        """End it and its processes at once, as when a machine loses its power."""
        self._end(self._descendants())

    def _end(self, theirs: Sequence[psutil.Process]) -> None:
        self._process.kill()
        kill_all(theirs)
        self._process.wait()

    def _descendants(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self._process.pid).children(recursive=True)
        return found

    def _said(self, what: str) -> str:
        tail = "\n".join(self.text.splitlines()[-_TAIL_LINES:])
        return f"{self.log.stem} {what}; the end of {self.log}:\n{tail}"


def settle(start: Callable[[], Process], sign: str, process: Process | None = None) -> Process:
    """Start a process on a free port, unless one is given, and wait for its sign.

    Nobody can keep a port free for another process.  Where one was taken meanwhile, the process
    ends and says so; then it is started again, on another one.
    """
    for _ in range(_ATTEMPTS):
        process = process or start()
        try:
            if process.comes_up(sign):
                return process
        except BaseException:
            process.kill()
            raise
        failure, taken = process.failure(), _TAKEN in process.text
        process = None
        if not taken:
            break
    raise failure


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """End processes at once, and wait until they have."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=_STOP_SECONDS)


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
