"""Sweeps: which jobs they are, where they go, and that one of them never costs another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest
from filelock import FileLock

from fedcomp import sweep as module
from fedcomp.errors import ConfigError
from fedcomp.report.summary import read_summary
from fedcomp.sweep import Job, plan, sweep
from tests.common import QUICK, interrupt

STUB = """
import json, os, pathlib, signal, sys, time
*words, folder = sys.argv[1:]
if folder.startswith("resume="):
    words = ["resumed"]
folder = pathlib.Path(folder.partition("=")[2].strip("'"))
if "seed=3" in words:
    sys.exit(1)
if "seed=4" in words:
    os.kill(os.getpid(), signal.SIGKILL)
folder.mkdir(parents=True, exist_ok=True)
with open("started", "a") as file:
    print(*words, file=file)
try:
    time.sleep(30 if "seed=9" in words else 0)
except KeyboardInterrupt:
    (folder / "interrupted").touch()
    sys.exit(130)
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
    monkeypatch.setattr(module, "_command", lambda: [sys.executable, "stub.py"])
    return tmp_path / "outputs" / "sweeps"


def started(folder: Path) -> list[str]:
    return (folder / "started").read_text().splitlines()


def test_a_sweep_is_every_combination_once() -> None:
    parent, jobs = plan(["codec@uplink=qsgd,sign,qsgd", "rounds=3", "seed=range(1,3)"])
    assert parent == Path("outputs/sweeps")
    assert [job.words for job in jobs] == [
        ("codec@uplink=qsgd", "rounds=3", "seed=1"),
        ("codec@uplink=qsgd", "rounds=3", "seed=2"),
        ("codec@uplink=sign", "rounds=3", "seed=1"),
        ("codec@uplink=sign", "rounds=3", "seed=2"),
    ]
    assert [job.label for job in jobs[:2]] == [
        "codec@uplink=qsgd seed=1", "codec@uplink=qsgd seed=2",
    ]  # fmt: skip
    assert [job.label for job in plan([])[1]] == ["defaults"]
    assert [job.label for job in plan(["seed=2"])[1]] == ["seed=2"]
    assert [job.label for job in plan(["seed=2,2", "rounds=1,2"])[1]] == ["rounds=1", "rounds=2"]


@pytest.mark.parametrize("word", ["seed=range(1,1000000000)", "seed=range(1,200)"])
def test_too_many_runs_are_a_slip_of_the_hand(word: str) -> None:
    with pytest.raises(ConfigError, match="more than 10000 runs"):
        plan([word, "rounds=range(1,200)"])


def test_a_job_is_known_by_its_overrides_alone(tmp_path: Path) -> None:
    one, two = plan(["seed=1,2", "rounds=3"])[1]
    parent, (again, other) = plan(["rounds=3,4", f"hydra.run.dir={tmp_path}", "seed=2"])
    assert parent == tmp_path
    assert two.key == again.key
    assert len({one.key, two.key, other.key}) == 3
    assert again.folder(parent) == tmp_path / f"rounds-3-{two.key}"
    two.folder(parent).mkdir()
    assert again.folder(parent) == two.folder(parent) == tmp_path / f"seed-2-{two.key}"
    assert other.folder(parent) == tmp_path / f"rounds-4-{other.key}"


def test_the_name_of_a_job_in_another_release_stays() -> None:
    assert Job(("rounds=3", "+strategy.x=1", "codec@uplink=qsgd")).key == "a02e3bd07d55"


def test_names_of_folders_are_short_and_need_no_quotes() -> None:
    words = ("model.hidden=[8,16]", "+strategy.x='a b'", "codec@uplink=qsgd")
    names = "model.hidden-8-16_strategy.x-a-b_uplink-qsgd-"
    assert Job((), words).folder(Path("p")).name.startswith(names)
    long = Job(tuple(f"hydra.searchpath=[file:///{'x' * 300}]" for _ in range(3)))
    assert len(long.folder(Path("p")).name) < 80


def test_all_that_is_wrong_in_any_job_is_named_once() -> None:
    with pytest.raises(ConfigError) as error:
        plan(
            [
                *("codec@uplink=qsgd,sgin,sign", "uplink.s=3", "clients=many", "x"),
                *("rounds=interval(1,2)", "fraction=0.5,2", "fraction=1", "verbose=range(2,1)"),
                "hydra.run.dir=a,b",
            ]
        )
    found = error.value.problems
    for start, end in (
        ("x: is not of the form key=value", ")"),
        ("rounds=interval(1,2): has countless values", "or a range(…)"),
        ("verbose=range(2,1): names no value", ""),
        ("fraction=0.5,2: fraction is given 2 times", ""),
        ("hydra.run.dir=a,b: has to name one folder, for all jobs", ""),
        ("codec@uplink=sgin: there is no such option; did you mean sign?", "uniform"),
        ("uplink.s=3: there is no key uplink.s", " (with codec@uplink=sign)"),
        ("clients=many: Input should be a valid integer", "integer"),
    ):
        (text,) = (text for text in found if text.startswith(start))
        assert text.endswith(end)
    assert len(found) == 8


def test_a_problem_of_some_jobs_says_of_which() -> None:
    jobs = [Job((), (f"a={a}", f"b={b}")) for a in (1, 2) for b in (1, 2)]
    assert module._where("c: no", jobs[:2], 4) == " (with a=1)"
    assert module._where("c: no", jobs[3:], 4) == " (with a=2 b=2)"
    assert module._where("c: no", jobs[:3], 4) == " (with a=1 b=1, and in other jobs)"
    assert module._where("c: no", jobs, 4) == module._where("a=1: no", jobs[:2], 4) == ""


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
    one, two = plan(["seed=1,2"])[1]
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
    one, _ = plan(["seed=1,2"])[1]
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
    assert module._command() == [sys.executable, "-P", "-m", "fedcomp"]
    monkeypatch.chdir(Path(module.__file__).parents[1])
    assert module._command() == [sys.executable, "-m", "fedcomp"]


def test_a_job_that_another_sweep_runs_is_waited_for(
    stub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ((job,),) = (plan(["seed=1"])[1],)
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
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.5)

    def interrupt() -> None:
        while not (tmp_path / "started").exists() or len(started(tmp_path)) < 2:
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            sweep(["seed=1,9,2"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert started(tmp_path) == ["seed=1", "seed=9"]
    assert len(list(stub.glob("seed-9-*/interrupted"))) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1].startswith("interrupted: 1 of 3 jobs have finished")
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
    assert stdout.endswith("interrupted: 0 of 2 jobs have finished, the same command goes on\n")
    (folder,) = tmp_path.glob("outputs/sweeps/seed-1-*")
    assert (folder / "model.safetensors").is_file()
