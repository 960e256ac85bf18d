"""The command that runs published comparisons: its plans, and that it does nothing twice."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from fedcomp.config import compose_config
from fedcomp.quantise.cli import configure
from scripts.reproductions.__main__ import PLANS
from scripts.reproductions.plan import Plan, Size
from tests.data.small_images import write_cifar10

ROOT = Path(__file__).parent.parent
SMALL = ("data_dir=.", "dataset.verify=false", "clients=2", "rounds=1", "train.steps=1")


def plan_of(name: str) -> Any:
    return import_module(f"scripts.reproductions.{name}").PLAN


def sizes(plan: Any) -> list[Size]:
    return ["", *(size for size in LENGTHS if plan.more(size))]


LENGTHS: tuple[Size, ...] = ("quick", "full")
FEDERATED = [name for name in PLANS if isinstance(plan_of(name), Plan)]


def reproduce(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "scripts.reproductions", "--folder", "found", *words]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", FEDERATED)
def test_every_run_of_a_plan_composes_and_shares_the_field(name: str) -> None:
    plan = plan_of(name)
    assert {plan.reference, *plan.drawn} <= set(plan.runs)
    assert all(re.fullmatch(r"\w+", run) for run in plan.runs), "they name folders"
    shared = ("partition", "model", "clients", "fraction", "seed")
    for size in sizes(plan):
        configs = {job: compose_config(list(job.words)) for job in plan.jobs(size)}
        for job, config in configs.items():
            alike = (plan.reference, job.case, job.seed)
            reference = next(c for other, c in configs.items() if other[:3] == alike)
            assert all(config[key] == reference[key] for key in shared)
            assert clients_share(config) == clients_share(reference)
            own = [word for word in job.words if word.startswith(("method=", "strategy="))]
            assert config["strategy"] == strategy_of(*own)


@cache
def strategy_of(*words: str) -> dict[str, Any]:
    """Return the strategy that words alone compose."""
    return dict(compose_config([*words])["strategy"])


def clients_share(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the data but for the server's, and training with the work of both phases added up."""
    data, train = ({**config[key]} for key in ("dataset", "train"))
    del data["server_data"]
    if config["recipe"]["name"] == "fedcompress":  # trains twice as long as `train` says
        assert config["recipe"]["epochs"] is None
        key = "epochs" if train["steps"] is None else "steps"
        train[key] *= 2
    return data, train


def test_runs_that_are_compared_by_their_scales_share_their_updates() -> None:
    plan = plan_of("fsfl")
    scaled, plain = (compose_config([*plan.runs[run]]) for run in ("fsfl", "fsfl_unscaled"))
    for key in ("uplink", "downlink", "rounds", "link"):
        assert scaled[key] == plain[key]


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    words = ("fsfl", *SMALL, "--only", "fedavg")
    first = reproduce(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "fewer bytes" in first.stdout
    assert (tmp_path / "found" / "fsfl" / "curves.png").is_file()
    summary = tmp_path / "found" / "fsfl" / "fedavg" / "summary.json"
    written = summary.stat().st_mtime_ns
    again = reproduce(*words, cwd=tmp_path)
    assert "there already" in again.stdout
    assert summary.stat().st_mtime_ns == written
    other = reproduce(*words, "seed=2", cwd=tmp_path)
    assert (other.returncode, "holds a run with other settings" in other.stderr) == (1, True)
    assert "fedavg: left out" in other.stderr
    assert "fewer bytes" not in other.stdout
    assert summary.stat().st_mtime_ns == written
    summary.write_text(summary.read_text().replace("finished", "running"))
    repeated = reproduce(*words, cwd=tmp_path)
    assert (repeated.returncode, "there already" in repeated.stdout) == (0, False)
    assert "finished" in summary.read_text()


def test_a_run_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    done = reproduce("fsfl", "train.lr=fast", "--only", "stc", cwd=tmp_path)
    assert done.returncode == 1
    assert "train.lr" in done.stderr
    assert "stc failed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nothing",), "invalid choice"),
        (("fsfl", "--only", "x"), "no run 'x'"),
        (("fsfl", "--jobs", "0"), "at least 1"),
        (("fsfl", "--quick"), "fsfl has no short runs"),
        (("fsfl", "--save", "seed=2", "data_dir=x"), "as they are planned"),
        (("voc", "--save", "--quick"), "as they are planned"),
        (("fsfl", "--folder", "/proc/none"), "--folder /proc/none: /proc/none/fsfl cannot be made"),
        (("quantise", "--only", "ecq"), "choose of trained, nearest_4_bits"),
    ],
)
def test_mistakes_are_named(words: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    done = reproduce(*words, cwd=tmp_path)
    assert (done.returncode, reason in done.stderr) == (2, True)


@pytest.mark.parametrize("size", ["", *LENGTHS])
def test_every_way_to_quantise_composes_and_fits_the_net(size: Size) -> None:
    plan = plan_of("quantise")
    training, *others = plan.jobs(size)
    trained = compose_config(list(training.words))
    assert training.after is None
    assert [job.run for job in others] == list(plan.runs)
    for job in others:
        assert job.after == training.folder
        settings, config = configure([*job.words, "checkpoint=net"])
        assert settings.quantiser == job.run.split("_")[0]
        for key in ("dataset", "model", "seed"):
            assert config[key] == trained[key]


@pytest.mark.parametrize("name", ["chest_xray", "voc"])
def test_sets_of_pictures_are_divided_as_they_should_be(name: str) -> None:
    config = compose_config([f"experiment={name}", "method=stc"])
    assert (config["dataset"]["name"], config["method"]["name"]) == (name, "stc")
    assert (config["partition"]["name"] == "natural") == (name == "chest_xray")
