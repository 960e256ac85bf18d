"""Running a sweep: one job never costs another, and all can go on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest
from filelock import FileLock

from fedcomp.report.summary import read_summary
from fedcomp.sweep import child, run
from fedcomp.sweep.plan import plan
from fedcomp.sweep.run import sweep
from tests.common import QUICK, interrupt
from tests.sweep.conftest import started, sweep_interrupted


def test_a_failing_job_stops_nothing_and_is_named(
    stub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep(["seed=3,1,4,2", "rounds=5"]) == 2
    assert started(tmp_path) == ["seed=1 rounds=5", "seed=2 rounds=5"]
    shown = capfd.readouterr()
    assert [line.split(", see")[0] for line in shown.err.splitlines()] == [
        "fedcomp: 2 of 4 jobs failed",
        "fedcomp: seed=3: exit code 1",
        "fedcomp: seed=4: SIGKILL",
    ]
    assert "job 2 of 4: seed=1" in shown.out
    table = shown.out.split("\n\n")[1].splitlines()
    assert [line.split()[-1].rpartition("-")[0] for line in table[1:]] == [
        "outputs/sweeps/seed-1", "outputs/sweeps/seed-2",
    ]  # fmt: skip


def test_only_what_has_not_finished_is_run_again(
    stub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sweep(["seed=1,2", "hydra.run.dir='my runs/s'"]) == 0
    one, two = sorted(path for path in (tmp_path / "my runs" / "s").iterdir() if path.is_dir())
    summary = two / "summary.json"
    summary.write_text(summary.read_text().replace("finished", "stopped"))
    (two / "left").touch()
    capfd.readouterr()
    assert sweep(["seed=2,1", "hydra.run.dir='my runs/s'"]) == 0
    assert started(tmp_path) == ["seed=1", "seed=2", "seed=2"]
    assert not (two / "left").exists()
    assert read_summary(two)["status"] == "finished"
    place = two.relative_to(tmp_path)
    shown = capfd.readouterr().out
    assert f"{place} holds a run that did not finish; it is removed and begins anew" in shown
    assert f"job 2 of 2: seed=1: finished before, in {one.relative_to(tmp_path)}" in shown


def test_a_job_that_was_cut_off_goes_on(
    stub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = plan(["seed=1,2"]).jobs
    for job in (one, two):
        (job.folder(stub) / "checkpoint").mkdir(parents=True)
    (two.folder(stub) / "checkpoint" / "job.json").touch()
    assert sweep(["seed=1,2"]) == 0
    assert started(tmp_path) == ["seed=1", "resumed"]
    shown = capfd.readouterr().out
    assert f"{two.folder(stub).relative_to(tmp_path)} holds a run that did not finish; it" in shown


def test_a_folder_that_cannot_be_made_is_the_jobs_failure(
    stub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, _ = plan(["seed=1,2"]).jobs
    stub.mkdir(parents=True)
    one.folder(stub).touch()
    assert sweep(["seed=1,2"]) == 1
    assert started(tmp_path) == ["seed=2"]
    assert "fedcomp: seed=1: [Errno" in capfd.readouterr().err
    assert one.folder(stub).is_file()


def test_the_current_folder_shadows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run._command() == [sys.executable, "-P", "-m", "fedcomp"]
    monkeypatch.chdir(Path(run.__file__).parents[2])
    assert run._command() == [sys.executable, "-m", "fedcomp"]


def test_a_job_that_another_sweep_runs_is_waited_for(
    stub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ((job,),) = (plan(["seed=1"]).jobs,)
    stub.mkdir(parents=True)
    failed: list[int] = []
    with FileLock(stub / f".{job.key}.lock"):
        other = Thread(target=lambda: failed.append(sweep(["seed=1"])))
        other.start()
        shown, deadline = "", time.monotonic() + 20
        while "waiting" not in shown and time.monotonic() < deadline:
            time.sleep(0.02)
            shown += capfd.readouterr().out
        job.folder(stub).mkdir()
        (job.folder(stub) / "summary.json").write_text(os.environ["SUMMARY"])
    other.join(20)
    assert failed == [0]
    assert "job 1 of 1: seed=1: another sweep runs it" in shown
    assert "finished before" in capfd.readouterr().out
    assert not (tmp_path / "started").exists()


def test_an_interrupt_of_the_sweep_alone_reaches_its_run(
    stub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "STOP_SECONDS", 0.5)

    sweep_interrupted(["seed=1,9,2"], tmp_path)
    assert started(tmp_path) == ["seed=1", "seed=9"]
    assert len(list(stub.glob("seed-9-*/interrupted"))) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1].startswith("1 of 3 jobs have finished")
    assert "seed-1-" in lines[-2]


def test_a_sweep_as_a_user_runs_it(tmp_path: Path) -> None:
    words = [word for word in QUICK if not word.startswith("clients")]

    def fedcomp(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fedcomp", *words, *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    first = fedcomp("--multirun", "clients=4,4")
    assert (first.returncode, first.stderr) == (0, "")
    (folder,) = (path for path in tmp_path.glob("outputs/sweeps/*") if path.is_dir())
    summary = read_summary(folder)
    assert (summary["status"], summary["clients"]) == ("finished", 4)
    order = ("job 1 of 1: ", "round 2/2", "best ", "method ", folder.name)
    places = [first.stdout.rindex(text) for text in order]
    assert places == sorted(places)
    again = fedcomp("clients=4", "-m")
    assert (again.returncode, "round 2/2" in again.stdout) == (0, False)
    assert f"finished before, in {folder.relative_to(tmp_path)}" in again.stdout


def test_ctrl_c_ends_the_run_and_the_sweep(tmp_path: Path) -> None:
    stdout = interrupt(tmp_path, "-m", *QUICK[:2], "rounds=100000", "seed=1,2", *QUICK[3:])
    assert "stopped" in stdout
    last = ["0 of 2 jobs have finished, the same command goes on", "interrupted"]
    assert stdout.splitlines()[-2:] == last
    (folder,) = tmp_path.glob("outputs/sweeps/seed-1-*")
    assert (folder / "model.safetensors").is_file()
