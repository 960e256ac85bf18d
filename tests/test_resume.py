"""Going on with runs, from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fedcomp import cli
from fedcomp.config import compose_config
from fedcomp.engines.superlink import SuperLinkEngine
from fedcomp.errors import ConfigError, DataError, EngineError
from fedcomp.report.observer import RoundResult
from fedcomp.resume import Begun, Start, alone, can_go_on, split
from fedcomp.runtime import Hooks
from fedcomp.settings import Job
from fedcomp.setup import Setup
from tests.common import QUICK, read_csv, read_summary, run_inline

NETWORK = ("network=custom", "network.compute=0.5")
WORDS = (*QUICK, *NETWORK, "method=stc", "rounds=40", "hydra.run.dir=cut")


def fedcomp(folder: Path, *words: str) -> tuple[int, str, list[str]]:
    """Run the command; return its exit code and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "fedcomp", *words], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr.splitlines()


def refused(
    folder: Path, capfd: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, list[str]]:
    """Do the same in this process, for words that start nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with pytest.raises(SystemExit) as left:
            cli.main(words)
    shown = capfd.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, shown.out, shown.err.splitlines()


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a run lies that was killed after some rounds."""
    folder = tmp_path_factory.mktemp("killed")
    process = subprocess.Popen(
        [sys.executable, "-m", "fedcomp", *WORDS], cwd=folder, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("cut/checkpoint/round-*[5-9]/state.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return folder


def test_what_a_killed_run_may_be_given_to_go_on(
    cut: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cases: dict[tuple[str, ...], str] = {
        ("resume=nowhere",): "resume=nowhere: there is no such folder; give the folder of a run",
        ("resume=.",): "resume=.: checkpoint/job.json is missing; give the folder of a run",
        ("resume=cut", "resume=cut"): "resume= is given 2 times",
        ("resume=cut", "hydra.run.dir=x"): "hydra.run.dir cannot be given with resume=cut",
        ("resume=cut", "-m", "seed=1,2"): "resume=cut: a sweep goes on by itself",
        ("resume=cut", "train.lr=0.5"): "train.lr=0.5: the run began with 0.05; a resumed run",
        ("resume=cut", "rounds=50"): "resume_allow=[data_dir,engine,targets,verbose]",
        ("resume=cut", "resume_allow=[data_dir]", "verbose=true"): "verbose=True: the run began",
        ("resume=cut", "model=lenet5"): "model.name=lenet5: the run began with mlp",
        ("resume=cut", "engine=none"): "engine=none: there is no such option",
        WORDS: "hydra.run.dir=cut: holds a run already; name another folder, or go on with it",
    }
    before = {path: path.stat().st_mtime_ns for path in cut.rglob("*")}
    for words, expected in cases.items():
        code, out, errors = refused(cut, capfd, *words)
        assert code in (1, 2), words
        assert any(expected in line for line in errors), (words, errors)
        assert all(line.startswith("fedcomp: ") for line in errors), errors
        assert "goes on with it" not in out
    with FileLock(cut / "cut" / "checkpoint" / ".lock"):
        code, _, errors = refused(cut, capfd, "resume=cut")
    assert (code, errors) == (
        1, [f"fedcomp: {cut / 'cut'}: another process is at this run; wait for it or stop it"]
    )  # fmt: skip
    after = {path: path.stat().st_mtime_ns for path in cut.rglob("*") if path.name != ".lock"}
    assert {path: before[path] for path in after} == after


def test_what_a_run_cannot_go_on_with_is_not_remembered(cut: Path) -> None:
    files = [cut / "cut" / name for name in ("checkpoint/job.json", ".hydra/config.yaml")]
    before = [file.read_bytes() for file in files]
    code, out, errors = fedcomp(cut, "resume=cut", "model.hidden=[9]", "resume_allow=[model]")
    assert code == 1
    assert "holds another model than the run's, in " in " ".join(errors)
    assert "Traceback" not in out
    assert [file.read_bytes() for file in files] == before


def test_a_killed_run_goes_on_to_the_end_that_it_would_have_had(cut: Path) -> None:
    whole = run_inline(cut / "whole", *WORDS[:-1])
    code, out, errors = fedcomp(cut, "resume=cut", "targets=[0.2]")
    assert (code, errors) == (0, [])
    assert "goes on after round " in out
    run = cut / "cut"
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    columns = ("round", "accuracy", "uplink_bytes", "downlink_bytes", "clients", "network_seconds")
    tables = [[[r[c] for c in columns] for r in read_csv(f / "rounds.csv")] for f in (run, whole)]
    assert tables[0] == tables[1]
    for key in ("total_bytes", "network_seconds"):
        assert read_summary(run)[key] == read_summary(whole)[key]
    assert list(read_summary(run)["bytes_to_target"]) == ["0.2"]
    stored = (run / ".hydra" / "overrides.yaml").read_text().splitlines()
    assert stored[-1] == "- targets=[0.2]"
    code, out, errors = fedcomp(cut, "resume=cut")
    assert (code, errors) == (0, [])
    assert out.startswith("cut: the run has finished\naccuracy")
    code, out, errors = fedcomp(cut, "resume=cut", "rounds=41", "resume_allow=[rounds]")
    assert (code, errors) == (0, [])
    assert "goes on after round 40\n" in out
    assert [row["round"] for row in read_csv(run / "rounds.csv")] == [str(n) for n in range(42)]
    assert read_summary(run)["rounds"] == 41


def test_new_words_take_the_place_of_old_ones() -> None:
    start = Start("1", ["codec@uplink=topk", "uplink.density=0.1", "+strategy.x=1", "seed=1"])
    assert start.merged([]) == start.overrides
    assert start.merged(["seed=2"]) == [*start.overrides[:3], "seed=2"]
    changed = start.merged(["codec@uplink=sign", "strategy.x=2"])
    assert changed == ["seed=1", "codec@uplink=sign", "strategy.x=2"]


def test_every_changed_leaf_is_named_but_for_those_that_are_allowed() -> None:
    config = compose_config(["model=mlp"])
    start = Start("1", [], json.loads(json.dumps(config)))
    start.check(config)
    other: dict[str, Any] = compose_config(["model=lenet5", "engine=inline", "seed=3"])
    with pytest.raises(ConfigError) as failed:
        start.check(other)
    keys = [problem.partition(": ")[0] for problem in failed.value.problems]
    assert keys == ["model.hidden", "model.name=lenet5", "seed=3"]
    with pytest.raises(ConfigError, match=r"^model.hidden=\[128, 64\]: the run began without it"):
        Start("1", [], other).check({**config, "model": config["model"] | {"name": "lenet5"}})
    allowed = ["engine=inline", "verbose=true", "targets=[0.1]", "data_dir=x"]
    start.check(compose_config(["model=mlp", *allowed]))
    start.check(compose_config(["model=lenet5", "resume_allow=[model]"]))


def test_a_run_without_checkpoints_is_no_run_to_go_on_with(tmp_path: Path) -> None:
    config = compose_config(["checkpoint_every=0"])
    Start("run", [], config).write(tmp_path)
    assert not can_go_on(tmp_path)
    with pytest.raises(ConfigError, match="checkpoint_every=0: the run has left no checkpoint"):
        Start.read(tmp_path).check(config)


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["a=1", "resume=x"], "x"),
        (["resume='a b/c=d'", "a=1"], "a b/c=d"),
        (["a=1"], None),
        (["resume=null", "a=1"], None),
        (["resume=", "a=1"], None),
    ],
)
def test_the_folder_is_taken_as_it_is_written(words: list[str], folder: str | None) -> None:
    assert split(words) == (folder, ["a=1"])


def test_a_damaged_start_is_said(tmp_path: Path) -> None:
    start = Start("run", ["seed=1"], {"checkpoint_every": 1})
    start.write(tmp_path)
    assert Start.read(tmp_path) == start
    path = tmp_path / "checkpoint" / "job.json"
    for text in ("{", "[]", '{"run_id": "1", "more": 2}', "{}", '{"run_id": "1"}'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"job.json is damaged .*; start the run anew"):
            Start.read(tmp_path)


def test_a_run_has_its_folder_alone(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(DataError, match="another process"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("rounds", [0, 1])
def test_a_server_elsewhere_is_told_the_same_folder_wherever_a_run_goes_on(
    absolute: bool, rounds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whether there has been a checkpoint, which is so as soon as a round was heard of."""
    jobs: list[Job] = []

    def run(_: object, job: Job, setup: Setup, hooks: Hooks) -> None:
        jobs.append(job)
        for number in range(rounds):
            for observer in hooks.observers:
                if isinstance(observer, Begun):
                    observer.on_round(RoundResult(round=number, metrics={}, entries=[]))
        raise EngineError("died")

    monkeypatch.setattr(SuperLinkEngine, "check", lambda _: None)
    monkeypatch.setattr(SuperLinkEngine, "run", run)
    (tmp_path / "below").mkdir()
    named = str(tmp_path / "below" / "x") if absolute else "below/x"
    for place, words in (
        (tmp_path, (*QUICK, "engine=superlink", f"hydra.run.dir={named}")),
        (tmp_path / "below", ("resume=x",)),
        (tmp_path.parent, (f"resume={tmp_path}/below/x",)),
    ):
        monkeypatch.chdir(place)
        with pytest.raises(SystemExit):
            cli.main(words)
    assert [job.server_folder for job in jobs] == [named] * 3
    assert [job.began for job in jobs] == [False, rounds > 0, rounds > 0]
    assert len({job.run_id for job in jobs}) == 1
