"""The command on a disk that is full, in a folder that goes, or that cannot be made."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.common import read_csv, read_summary

WORDS = (
    *("engine=inline", "clients=10", "rounds=1000", "method=fedavg", "model=mlp"),
    *("model.hidden=[8]", "train.steps=1"),
)
LIMIT = 40_000
"""Bytes of any file: more than the picture of the partition takes, less than many rounds do."""


def start(folder: Path, *, limit: int = resource.RLIM_INFINITY) -> subprocess.Popen[str]:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    return subprocess.Popen(
        [sys.executable, "-m", "fedcomp", *WORDS, f"hydra.run.dir={folder}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )


def check_refused(process: subprocess.Popen[str], reason: str) -> str:
    """Check that the command says why it failed in one line; return what it printed beside it."""
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 1
    assert stderr.startswith("fedcomp: ")
    assert reason in stderr
    assert len(stderr.splitlines()) == 1, stderr
    assert "Traceback" not in stdout
    return stdout


def test_a_full_disk_ends_the_run_and_leaves_what_was_measured(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    stdout = check_refused(start(folder, limit=LIMIT), "File too large")
    summary, packets = read_summary(folder), read_csv(folder / "packets.csv")
    done = summary["rounds"]
    assert done > 5
    assert f"after {done} rounds" in stdout.replace("\n", " ")
    assert [int(row["round"]) for row in read_csv(folder / "rounds.csv")][: done + 1] == [
        *range(done + 1)
    ]
    assert all(None not in row.values() for row in packets)
    measured = [row for row in packets if 0 < int(row["round"]) <= done]
    assert len(measured) == 20 * done
    assert (folder / "packets.csv").read_bytes().endswith(b"\n")
    assert not list(folder.glob("*.tmp"))


def test_a_folder_that_is_removed_ends_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (folder / "summary.json").exists():
        time.sleep(0.05)
    folder.rename(tmp_path / "gone")  # at once, where rmtree would meet files that come and go
    check_refused(process, "No such file or directory")
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_ends_the_command(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_refused(start(tmp_path / "file" / "run"), "Not a directory")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_is_full_at_once_ends_the_command(tmp_path: Path) -> None:
    stdout = check_refused(start(tmp_path / "run", limit=9000), "File too large")
    assert "round 0" not in stdout
