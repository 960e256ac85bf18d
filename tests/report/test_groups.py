"""Which runs are one group, what groups are called, and which are not comparable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedcomp.errors import DataError
from fedcomp.report.comparison.fairness import notes, refuse
from fedcomp.report.comparison.groups import Group, group
from fedcomp.report.runs import all_folders, read_runs
from tests.report.made import NONE, make_run

STC: dict[str, Any] = {}
FEDAVG: dict[str, Any] = {
    "method__name": "fedavg",
    "uplink": {"name": "none"},
    "downlink": {"name": "none"},
}


def groups_of(folder: Path, *runs: dict[str, Any]) -> list[Group]:
    for number, words in enumerate(runs):
        make_run(folder / f"run{number:02}", **words)
    return group(read_runs(all_folders([folder]))[0])


def labels(groups: list[Group]) -> list[str]:
    return [one.label for one in groups]


def test_runs_that_differ_in_nothing_that_matters_are_one_group(tmp_path: Path) -> None:
    groups = groups_of(
        tmp_path,
        STC,
        {"seed": 2, "data_dir": "/elsewhere", "verbose": True, "checkpoint_every": 0},
        {"seed": 3, "engine__cpus_per_client": 4, "resume_allow": ["rounds"]},
        {"seed": 4, "dataset__download": True, "tracker": {"name": "csv"}, "network__name": "none"},
        {"seed": 5, "sweep__parallel": 2, "link__max_update_norm": None},
        FEDAVG,
    )
    assert [len(one.runs) for one in groups] == [5, 1]
    assert groups[0].seeds == [1, 2, 3, 4, 5]
    assert labels(groups) == ["stc", "fedavg"]


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (
            [{"uplink__density": d, "downlink__density": 0.04} for d in (0.01, 0.04)],
            ["stc uplink.density=0.01", "stc uplink.density=0.04"],
        ),
        (
            [
                {"network": {"name": n, "up_mbps": 10.0 if n == "4g" else 50.0}}
                for n in ("4g", "5g")
            ],
            ["stc network=4g", "stc network=5g"],
        ),
        (
            [{"uplink": {"name": "qsgd", "levels": 4}}, STC],
            ["stc uplink=qsgd", "stc uplink=stc"],
        ),
        (
            [{"strategy___target_": f"flwr.serverapp.strategy.{n}"} for n in ("FedAvg", "FedAdam")],
            ["stc strategy=FedAvg", "stc strategy=FedAdam"],
        ),
        ([{"rounds": 2}, {"rounds": 40}, FEDAVG], ["stc rounds=2", "stc rounds=40", "fedavg"]),
        (
            [{"rounds": r, "train__lr": lr} for r in (1, 2) for lr in (0.1, 0.2)],
            [f"stc rounds={r} train.lr={lr}" for r in (1, 2) for lr in (0.1, 0.2)],
        ),
        (
            [{"rounds": n, "train__lr": n, "link__a": n, "link__b": n} for n in (1, 2)],
            [f"stc rounds={n} link.a={n} link.b={n} …" for n in (1, 2)],
        ),
        ([{"strategy__extra": 1}, STC], ["stc strategy.extra=1", "stc"]),
    ],
)
def test_labels_are_short_and_differ(
    runs: list[dict[str, Any]], expected: list[str], tmp_path: Path
) -> None:
    assert labels(groups_of(tmp_path, *runs)) == expected


def test_many_settings_at_once_still_tell_all_apart(tmp_path: Path) -> None:
    names = ("link__a", "link__b", "link__c", "link__d")
    runs = [{name: int(name == chosen) for name in names} for chosen in names]
    found = labels(groups_of(tmp_path, *runs))
    assert len(set(found)) == 4


def test_runs_without_stored_settings_are_grouped_by_their_summaries(tmp_path: Path) -> None:
    for number, method in enumerate(("stc", "stc", "fedavg")):
        run = make_run(tmp_path / f"{number}", method__name=method, seed=number)
        (run / ".hydra" / "config.yaml").unlink()
        (run / ".hydra").rmdir()
    groups = group(read_runs(all_folders([tmp_path]))[0])
    assert [(one.label, one.seeds) for one in groups] == [("stc", [0, 1]), ("fedavg", [2])]
    refuse(groups, ())
    assert any("no .hydra" in note for note in notes(groups))
    make_run(tmp_path / "known", method__name="fsfl")
    refuse(group(read_runs(all_folders([tmp_path]))[0]), ())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ({"dataset__name": "cifar10"}, "dataset: digits ("),
        ({"dataset__validation": 0.2}, "dataset.validation: 0.1 ("),
        ({"partition": {"name": "dirichlet", "alpha": 0.1}}, "partition: iid ("),
        ({"model__hidden": [16]}, "model.hidden: [8] ("),
        ({"clients": 5}, "clients: 4 ("),
        ({"fraction": 0.5}, "fraction: 1.0 ("),
        ({"targets": [0.5, 0.9]}, "targets: 0.5 ("),
    ],
)
def test_other_tasks_are_refused_with_what_differs_and_where(
    words: dict[str, Any], named: str, tmp_path: Path
) -> None:
    groups = groups_of(tmp_path, STC, {**FEDAVG, **words})
    with pytest.raises(DataError, match="not comparable; --any") as caught:
        refuse(groups, ())
    _, second = str(caught.value).splitlines()
    assert named in second
    assert all(str(tmp_path / f"run0{n}") in second for n in (0, 1))
    if "targets" in words:
        refuse(groups, (0.5,))


def test_another_metric_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    other = make_run(tmp_path / "b", method__name="fedavg")
    for name in ("summary.json", "rounds.csv"):
        path = other / name
        path.write_text(path.read_text().replace("accuracy", "map"))
    groups = group(read_runs([run, other])[0])
    with pytest.raises(DataError, match="metric: accuracy"):
        refuse(groups, ())


def test_what_belongs_to_methods_is_not_refused_but_told(tmp_path: Path) -> None:
    groups = groups_of(
        tmp_path,
        {**STC, "dataset__server_data": "held_out:0.05", "rounds": 3, "train__lr": 0.1},
        {**FEDAVG, "network": {"name": "4g"}, "strategy___target_": "a.b.FedAdam"},
    )
    refuse(groups, ())
    (note, *others) = notes(groups)
    assert note == (
        "beside the methods these differ: network (none, 4g); strategy (FedAvg, FedAdam);"
        " rounds (3, 2); dataset.server_data (held_out:0.05, synthetic); train.lr (0.1, 0.05)"
    )
    assert others == []


def test_a_setting_that_only_newer_runs_have_refuses_nothing(tmp_path: Path) -> None:
    groups = groups_of(tmp_path, {**STC, "dataset__validation": NONE}, FEDAVG)
    refuse(groups, ())


def test_labels_name_the_task_where_it_differs(tmp_path: Path) -> None:
    groups = groups_of(tmp_path, STC, {**FEDAVG, "dataset__name": "cifar10", "clients": 9})
    assert labels(groups) == [
        "stc dataset=digits clients=4",
        "fedavg dataset=cifar10 clients=9",
    ]


def test_a_reader_is_told_of_seeds_unfinished_runs_and_versions(tmp_path: Path) -> None:
    groups = groups_of(
        tmp_path,
        STC,
        {"seed": 2, "summary": {"status": "stopped"}},
        {**FEDAVG, "summary": {"versions": {"fedcomp": "0.0.9"}}},
        FEDAVG,
    )
    assert notes(groups) == [
        "the seeds differ: stc (1, 2); fedavg (1, 1)",
        "runs of one seed count twice: fedavg (1)",
        f"1 of 4 runs have not finished (…); they count as far as they are: {tmp_path / 'run01'}",
        "made by different versions of fedcomp: 0.0.9, 0.1.0",
    ]


@pytest.mark.parametrize("text", ["a: [", "just words", "\x00"])
def test_settings_that_are_damaged_are_named(text: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / ".hydra" / "config.yaml").write_text(text)
    with pytest.raises(DataError, match=r"config\.yaml does not hold the settings of a run"):
        group(read_runs([run])[0])


def test_references_within_settings_are_followed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    path = run / ".hydra" / "config.yaml"
    path.write_text(path.read_text() + "other: ${clients}\n")
    (one,) = group(read_runs([run])[0])
    assert one.settings["other"] == "4"
