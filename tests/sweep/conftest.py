"""A child that stands for a run: it writes a summary, or fails, or waits."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from fedcomp.sweep import run
from fedcomp.sweep.run import sweep

STUB = """
import glob, json, os, pathlib, signal, sys, time
*words, folder = sys.argv[1:]
if folder.startswith("resume="):
    words = ["resumed"]
folder = pathlib.Path(folder.partition("=")[2].strip("'"))
if "seed=3" in words:
    sys.exit(os.environ.get("REASON") or 1)
if "seed=4" in words:
    os.kill(os.getpid(), signal.SIGKILL)
folder.mkdir(parents=True, exist_ok=True)
with open("started", "a") as file:
    print(*words, file=file)
here = pathlib.Path(f"here-{os.getpid()}")
here.touch()
names = "FEDCOMP_CORES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"
(folder / "threads").write_text(json.dumps({name: os.environ.get(name) for name in names}))
print("one line\\nanother one", flush=True)
try:
    time.sleep(float(os.environ.get("SLEEP", 30)) if "seed=9" in words else 0)
    if together := int(os.environ.get("TOGETHER", 0)):
        end = time.monotonic() + 30
        while len(glob.glob("here-*")) < together and not os.path.exists("met"):
            assert time.monotonic() < end
            time.sleep(0.01)
        pathlib.Path("met").touch()
        assert len(glob.glob("here-*")) <= together
except KeyboardInterrupt:
    (folder / "interrupted").touch()
    sys.exit(130)
here.unlink()
(folder / "summary.json").write_text(os.environ["SUMMARY"])
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let jobs be a child that writes a summary; return the folder of the sweep."""
    summary = {
        **dict.fromkeys(("method", "dataset", "model"), "some"),
        **dict.fromkeys(("uplink_bytes", "downlink_bytes", "evaluation_bytes"), 1),
        **dict.fromkeys(("reference_bytes", "compression_ratio", "rounds", "failures"), 1),
        "status": "finished",
        "wall_seconds": 1.0,
        "final_accuracy": 0.5,
    }
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUMMARY", json.dumps(summary))
    monkeypatch.setattr(run, "_command", lambda: [sys.executable, "stub.py"])
    return tmp_path / "outputs" / "sweeps"


def started(folder: Path) -> list[str]:
    return (folder / "started").read_text().splitlines()


def sweep_interrupted(words: list[str], folder: Path) -> None:
    """Sweep until this process is interrupted, when two jobs have started."""

    def interrupt() -> None:
        while not (folder / "started").exists() or len(started(folder)) < 2:
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            sweep(words)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
