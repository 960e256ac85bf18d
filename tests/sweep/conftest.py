"""A child that stands for a run: it writes a summary, or fails, or waits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fedcomp.sweep import run

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
