"""Fresh processes: their wall time, the JSON they write, and the memory of their whole tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psutil

_SAMPLE_SECONDS = 0.4
_LIMIT_SECONDS = 1200.0
_OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Outcome:
    """What a child wrote, and what it took.

    Attributes
    ----------
    peak_bytes
        The largest sum of proportional set sizes over the child and all its descendants, seen in
        samples; 0 where the memory was not watched.
    """

    written: dict[str, Any]
    wall_seconds: float
    peak_bytes: int


def wall_seconds(command: list[str], repeats: int) -> list[float]:
    """Return the wall time of each of several runs of a command; a first one is not counted."""
    spent = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=_environment())
        spent.append(time.perf_counter() - began)
    return spent[1:]


def run_module(name: str, *arguments: str, watch_memory: bool = False) -> Outcome:
    """Run `scripts.benchmarks.<name> FOLDER …` to its end and read FOLDER/result.json."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        command = [sys.executable, "-P", "-m", f"scripts.benchmarks.{name}", text, *arguments]
        peak = 0
        began = time.perf_counter()
        with (folder / "log").open("w") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, env=_environment())
            while child.poll() is None:
                if watch_memory:
                    peak = max(peak, _tree_bytes(child.pid))
                time.sleep(_SAMPLE_SECONDS)
                if time.perf_counter() - began > _LIMIT_SECONDS:
                    child.kill()
        spent = time.perf_counter() - began
        if child.returncode:
            tail = "\n".join((folder / "log").read_text().splitlines()[-20:])
            msg = f"{' '.join(command[1:])} ended with {child.returncode}:\n{tail}"
            raise RuntimeError(msg)
        written = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return Outcome(written, spent, peak)


def finish(folder: Path, result: dict[str, Any]) -> None:
    """Write a child's result and leave, also where Flower or Ray left threads behind."""
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    leave(0)


def leave(code: int) -> NoReturn:
    """End this process, whatever threads it has."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def fresh_peak() -> int:
    """Let the peak of this process's memory start anew; return the bytes it starts from."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    """Return the most memory that this process has held since its peak started."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def _environment() -> dict[str, str]:
    return {**os.environ, **_OFFLINE}


def _tree_bytes(pid: int) -> int:
    """Sum the proportional set sizes of a process tree: shared pages count once."""
    total = 0
    try:
        parent = psutil.Process(pid)
        tree = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in tree:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended between the two calls
    return total
