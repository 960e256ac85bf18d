"""What `scripts/reproduce` says of runs: bytes to the target of their own case and seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.reproductions.plan import Plan
from scripts.reproductions.results import collect, columns
from tests.report.made import make_run

PLAN = Plan(
    field=("dataset=digits",),
    runs={"plain": ("method=fedavg",), "sparse": ("method=stc",)},
    reference="plain",
    cases={"iid": (), "skewed": ("partition=dirichlet",)},
    seeds=(1, 2),
    budget_bytes=3000,
)


def runs_of(results: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [run for run in results["runs"] if wanted.items() <= run.items()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for job in PLAN.jobs():
        assert job.seed is not None
        far = 0.1 * (job.seed - 1)
        if job.run == "plain":
            scores = (0.1, 0.3 + far, 0.5 + far, 0.6, 0.7)
            make_run(tmp_path / job.folder, scores, up=9000, down=1000, seed=job.seed)
        elif job.case == "iid":
            scores = (0.1, 0.2, 0.4, 0.55, 0.6)
            make_run(tmp_path / job.folder, scores, up=90, down=10, seed=job.seed, seconds=2.0)
    return tmp_path


def test_every_case_and_seed_is_a_job_of_its_own() -> None:
    jobs = list(PLAN.jobs())
    assert [job.folder for job in jobs][:3] == [
        "plain-iid-seed1",
        "sparse-iid-seed1",
        "plain-iid-seed2",
    ]
    assert len({job.folder for job in jobs}) == len(jobs) == 8
    assert jobs[-1].words == ("dataset=digits", "partition=dirichlet", "method=stc", "seed=2")
    short = Plan(("a=1",), {"x": ("b=2",)}, "x", seeds=(1, 2), quick=("rounds=1",))
    assert [job.words for job in short.jobs("quick")] == [("a=1", "b=2", "seed=1", "rounds=1")]
    assert [job.folder for job in Plan((), {"x": ()}, "x").jobs()] == ["x"]


def test_a_run_is_held_against_the_reference_of_its_seed(folder: Path) -> None:
    results = collect(PLAN, PLAN.jobs(), folder)
    first, second = runs_of(results, run="sparse")
    assert (first["target"], second["target"]) == (0.5, 0.6)
    assert (first["rounds_to_target"], second["rounds_to_target"]) == (3, 4)
    assert (first["bytes_to_target"], second["bytes_to_target"]) == (300, 400)
    assert (first["times_fewer_bytes"], second["times_fewer_bytes"]) == (20000 / 300, 50)
    assert first["network_seconds_to_target"] == 6.0
    assert first["message_bytes_to_target"] == 3 * 150
    assert first["times_fewer_message_bytes"] == 2 * 10050 / 450
    assert (first["score_at_target"], second["score_at_target"]) == (0.55, 0.6)
    assert (first["budget_round"], first["budget_score"]) == (4, 0.6)
    plain = runs_of(results, run="plain", case="iid")[0]
    assert (plain["times_fewer_bytes"], plain["network_seconds_to_target"]) == (1.0, None)
    assert (plain["budget_round"], plain["budget_score"]) == (0, 0.1)
    assert not runs_of(results, run="sparse", case="skewed")


def test_the_table_has_means_over_seeds_and_medians_of_ratios(folder: Path) -> None:
    made = {
        c.title: [cell.text for cell in c.cells]
        for c in columns(collect(PLAN, PLAN.jobs(), folder))
    }
    assert made["case"] == ["iid", "iid", "skewed"]
    assert made["method"] == ["plain", "sparse", "plain"]
    assert made["seeds"] == ["2", "2", "2"]
    assert made["accuracy"][1] == "0.6000 ± 0.0000"
    assert made["to target"] == ["20.0 kB", "350 B", "20.0 kB"]
    assert made["fewer bytes"][1] == "58.3 × (50.0 × to 66.7 ×)"
    assert made["rounds to it"][1] == "3.5"
    assert made["network time to it"] == ["–", "7.0 s", "–"]


def test_a_target_that_is_never_reached_is_none(folder: Path) -> None:
    make_run(folder / "sparse-skewed-seed1", (0.1, 0.2), up=9, down=1)
    results = collect(PLAN, PLAN.jobs(), folder)
    (never,) = runs_of(results, run="sparse", case="skewed")
    assert never["target"] == 0.5
    assert "bytes_to_target" not in never
    made = {c.title: c.cells[-1].text for c in columns(results)}
    assert (made["to target"], made["rounds to it"]) == ("–", "–")


def test_without_the_reference_nothing_is_compared(tmp_path: Path) -> None:
    make_run(tmp_path / "sparse-iid-seed1")
    (only,) = collect(PLAN, PLAN.jobs(), tmp_path)["runs"]
    assert only["target"] is None
    assert collect(PLAN, PLAN.jobs(), tmp_path / "nothing")["runs"] == []
