"""`sweep.csv`: a row a job, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Thread

import pytest

from fedcomp.sweep.index import Index
from fedcomp.sweep.plan import Job, plan
from fedcomp.sweep.run import sweep
from tests.common import read_csv
from tests.sweep.conftest import started


def rows(folder: Path, *columns: str) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in columns) for row in read_csv(folder / "sweep.csv")]


def test_a_row_has_what_was_given_and_what_came_of_it(
    stub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REASON", "some words\nfedcomp: data_dir=x: holds nothing")
    assert sweep(["seed=1,3", "codec@uplink=qsgd", "~strategy.fraction_evaluate"]) == 1
    one, three = read_csv(stub / "sweep.csv")
    assert one == {
        "folder": plan(["seed=1", "codec@uplink=qsgd", "~strategy.fraction_evaluate"])
        .jobs[0]
        .folder(stub)
        .name,
        "status": "finished",
        "reason": "",
        "seed": "1",
        "codec@uplink": "qsgd",
        "~strategy.fraction_evaluate": "removed",
        "rounds_done": "1",
        "metric": "accuracy",
        "final": "0.5",
        "best": "",
        "uplink_bytes": "1",
        "downlink_bytes": "1",
        "evaluation_bytes": "1",
        "total_bytes": "",
        "compression_ratio": "1",
        "failures": "1",
        "wall_seconds": "1.0",
        "network_seconds": "",
    }
    assert (stub / one["folder"]).is_dir()
    assert (three["status"], three["reason"]) == (
        "failed",
        "exit code 1: data_dir=x: holds nothing",
    )
    assert (three["seed"], three["final"]) == ("3", "")


def test_another_sweep_adds_rows_and_columns_and_takes_none_away(stub: Path) -> None:
    sweep(["seed=1,3"])
    sweep(["seed=1,2", "rounds=5,6"])
    sweep(["seed=1"])
    assert rows(stub, "seed", "rounds", "status") == [
        ("1", "", "finished"),
        ("3", "", "failed"),
        ("1", "5", "finished"),
        ("1", "6", "finished"),
        ("2", "5", "finished"),
        ("2", "6", "finished"),
    ]


def test_jobs_that_nobody_came_to_are_planned_and_the_cut_off_one_has_stopped(
    stub: Path, tmp_path: Path
) -> None:
    def interrupt() -> None:
        while not (tmp_path / "started").exists() or len(started(tmp_path)) < 2:
            time.sleep(0.02)
        assert rows(stub, "status") == [("failed",), ("finished",), ("running",), ("planned",)]
        (stub / read_csv(stub / "sweep.csv")[2]["folder"] / "checkpoint").mkdir()
        (stub / read_csv(stub / "sweep.csv")[2]["folder"] / "checkpoint" / "job.json").touch()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(int(next(tmp_path.glob("here-*")).name.partition("-")[2]), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        helper = Thread(target=interrupt, daemon=True)
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            sweep(["seed=3,1,9,2"])
        helper.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert rows(stub, "status") == [("failed",), ("finished",), ("stopped",), ("planned",)]


def test_a_row_of_a_sweep_that_was_killed_is_not_running_any_more(tmp_path: Path) -> None:
    one, two, three = (Job((f"seed={seed}",)) for seed in (1, 2, 3))
    index = Index(tmp_path)
    folders = {job: job.folder(tmp_path) for job in (one, two, three)}
    for job in (one, two):
        index.put(job, folders[job], "running")
    index.put(three, folders[three], "failed", "why")
    with two.lock(tmp_path):
        index.begin(folders.items())
    assert rows(tmp_path, "status", "reason") == [
        ("planned", ""),
        ("running", ""),
        ("failed", "why"),
    ]


@pytest.mark.parametrize("text", ["", "x\n1,2\n", "folder\na,b\n", "\0\xff", "folder,status\n"])
def test_a_table_that_is_none_is_made_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.csv").write_text(text, encoding="latin-1")
    job = Job(("seed=1",))
    Index(tmp_path).put(job, job.folder(tmp_path), "running")
    assert rows(tmp_path, "seed", "status") == [("1", "running")]


def test_a_full_disk_costs_no_run(
    stub: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedcomp.sweep.index.save_text", fail)
    assert sweep(["seed=1,2"]) == 0
    assert started(tmp_path) == ["seed=1", "seed=2"]
    assert capfd.readouterr().err == (
        "fedcomp: outputs/sweeps/sweep.csv cannot be written: [Errno 28] No space left on device\n"
    )
