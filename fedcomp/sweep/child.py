"""A job's process: how it is started, what it says, and how it is ended."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, BinaryIO

from fedcomp.errors import one_line
from fedcomp.runtime import CORES, cpu_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

OUTPUT = "output.txt"
"""What a job prints, in its folder, where several run at a time."""

STOP_SECONDS = 10.0

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
_READ = 4096
_PARENT_DEATH_SIGNAL = 1


class Child:
    """A job while it runs.

    Parameters
    ----------
    command
        What is run.
    parallel
        How many run at a time: a single one has the terminal to itself.
    """

    def __init__(self, command: Sequence[str], folder: Path, parallel: int = 1) -> None:
        self._alone = parallel == 1
        self._output = self._open(folder)
        self._start = self._seen = self._output.seek(0, os.SEEK_END)
        self._process = subprocess.Popen(
            command,
            stdin=None if self._alone else subprocess.DEVNULL,
            stdout=None if self._alone else self._output,
            stderr=self._output,
            env=environment(parallel),
            preexec_fn=_end_with_parent(),
        )

    def _open(self, folder: Path) -> BinaryIO:
        if self._alone:
            return tempfile.TemporaryFile()  # of its errors, which are shown as they come
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / OUTPUT).open("a+b")

    def poll(self) -> int | None:
        """Show what errors it has printed; return its exit code once it has ended."""
        code = self._process.poll()
        if self._alone:
            sys.stderr.write(self._read(self._seen).decode(errors="replace"))
            sys.stderr.flush()
            self._seen = self._size()
        return code

    def last_line(self) -> str:
        """Return the last line that it has printed."""
        lines = self._said()
        return one_line(lines[-1]) if lines else ""

    def reason(self, code: int) -> str:
        """Return why it failed: its exit code, and the last error that it named."""
        ended = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        said = [line for line in self._said() if line.startswith("fedcomp: ")]
        return f"{ended}: {one_line(said[-1].removeprefix('fedcomp: '))}" if said else ended

    def close(self) -> None:
        """Let go of its output."""
        self._output.close()

    def send(self, number: int) -> None:
        """Send it a signal."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _said(self) -> list[str]:
        text = self._read(max(self._start, self._size() - _READ)).decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()]

    def _size(self) -> int:
        return os.fstat(self._output.fileno()).st_size

    def _read(self, start: int) -> bytes:
        return os.pread(self._output.fileno(), self._size() - start, start)


def stop(children: Iterable[Child]) -> None:
    """End processes: Ctrl-C has reached them as well, and they get the time to end.

    Those that go on got no interrupt, which happens where only this process was sent one.
    """
    running = list(children)
    main = current_thread() is main_thread()
    # A second one must not come between.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        for further in (None, signal.SIGINT, signal.SIGKILL):
            for child in running:
                if further is not None:
                    child.send(further)
            end = time.monotonic() + STOP_SECONDS
            while running and time.monotonic() < end:
                running = [child for child in running if child.poll() is None]
                time.sleep(0.02)
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


def environment(parallel: int) -> dict[str, str]:
    """Return that of a job: with others beside it, it gets its share of the cores and no more.

    `FEDCOMP_CORES`, where the user has set it, is what there is to share; numbers of threads stay
    as the user has set them.  How many threads a client computes with is a setting of the run,
    so that its result is the same with any share.
    """
    if parallel == 1:
        return dict(os.environ)
    share = str(max(cpu_count() // parallel, 1))
    return {**dict.fromkeys(_THREADS, share), **os.environ, CORES: share}


def _end_with_parent() -> Callable[[], object] | None:
    """Return what makes a new process end when this one is killed, where that is possible."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PARENT_DEATH_SIGNAL, int(signal.SIGTERM))
