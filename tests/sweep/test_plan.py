"""Which jobs a sweep has, and where they go."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from fedcomp.config import compose_config, config_dir, group_choices
from fedcomp.errors import ConfigError
from fedcomp.sweep import plan as planning
from fedcomp.sweep.plan import Job, is_own, plan
from fedcomp.sweep.settings import SweepSettings


def test_a_sweep_is_every_combination_once() -> None:
    planned = plan(["codec@uplink=qsgd,sign,qsgd", "rounds=3", "seed=range(1,3)"])
    jobs = planned.jobs
    assert (planned.folder, planned.parallel) == (Path("outputs/sweeps"), 1)
    assert [job.words for job in jobs] == [
        ("codec@uplink=qsgd", "rounds=3", "seed=1"),
        ("codec@uplink=qsgd", "rounds=3", "seed=2"),
        ("codec@uplink=sign", "rounds=3", "seed=1"),
        ("codec@uplink=sign", "rounds=3", "seed=2"),
    ]
    assert [job.label for job in jobs[:2]] == [
        "codec@uplink=qsgd seed=1", "codec@uplink=qsgd seed=2",
    ]  # fmt: skip
    assert [job.label for job in plan([]).jobs] == ["defaults"]
    assert [job.label for job in plan(["seed=2"]).jobs] == ["seed=2"]
    assert [job.label for job in plan(["seed=2,2", "rounds=1,2"]).jobs] == ["rounds=1", "rounds=2"]


@pytest.mark.parametrize("word", ["seed=range(1,1000000000)", "seed=range(1,200)"])
def test_too_many_runs_are_a_slip_of_the_hand(word: str) -> None:
    with pytest.raises(ConfigError, match="more than 10000 runs"):
        plan([word, "rounds=range(1,200)"])


def test_a_job_is_known_by_its_overrides_alone(tmp_path: Path) -> None:
    one, two = plan(["seed=1,2", "rounds=3"]).jobs
    wider = plan(["rounds=3,4", f"hydra.run.dir={tmp_path}", "seed=2"])
    parent, (again, other) = wider.folder, wider.jobs
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
    assert planning._where("c: no", jobs[:2], 4) == " (with a=1)"
    assert planning._where("c: no", jobs[3:], 4) == " (with a=2 b=2)"
    assert planning._where("c: no", jobs[:3], 4) == " (with a=1 b=1, and in other jobs)"
    assert planning._where("c: no", jobs, 4) == planning._where("a=1: no", jobs[:2], 4) == ""


LISTS = [name for name in group_choices()["sweep"] if name != "none"]


@pytest.mark.parametrize("name", LISTS)
def test_a_list_says_how_it_is_given_and_its_jobs_compose(name: str) -> None:
    text = (config_dir() / "sweep" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# fedcomp -m sweep={name} ")
    assert plan([f"sweep={name}", "method=half", "dataset=digits"]).jobs


def test_all_methods_are_compared_on_digits() -> None:
    jobs = plan(["sweep=methods", "dataset=digits"]).jobs
    assert [job.values["method"] for job in jobs] == group_choices()["method"]


def test_no_list_is_the_default() -> None:
    assert compose_config([])["sweep"] == {"over": [], "parallel": 1}
    assert {field.name: field.default for field in fields(SweepSettings)} == {
        "over": (), "parallel": 1
    }  # fmt: skip


def test_words_of_a_list_come_first_and_give_way() -> None:
    words = ["sweep.over=['method=half,stc','seed=1,2','rounds=3']", "seed=7", "clients=3,4"]
    assert [job.words for job in plan(words).jobs] == [
        ("method=half", "rounds=3", "seed=7", "clients=3"),
        ("method=half", "rounds=3", "seed=7", "clients=4"),
        ("method=stc", "rounds=3", "seed=7", "clients=3"),
        ("method=stc", "rounds=3", "seed=7", "clients=4"),
    ]


def test_a_job_is_the_same_however_the_sweep_is_told_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "cpu_count", lambda: 8)
    plain = plan(["seed=1,2", "method=half"])
    listed = plan(["sweep.parallel=2", "method=half", "sweep.over=['seed=1,2']"])
    assert {job.key for job in plain.jobs} == {job.key for job in listed.jobs}
    assert (plain.parallel, listed.parallel) == (1, 2)
    assert plan(["sweep.parallel=5", "seed=1,2"]).parallel == 2


def test_what_is_wrong_with_the_sweep_itself_is_explained(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    text = "parallel: 1\nover: [rounds=x, 'seed=1,2', 'x', 'sweep.parallel=2', 'method=haf,stc']\n"
    (tmp_path / "sweep" / "mine.yaml").write_text(text)
    elsewhere = f"hydra.searchpath=['file://{tmp_path}']"
    with pytest.raises(ConfigError) as error:
        plan([elsewhere, "sweep=mine", "seed=y"])
    found = [text.split(" (")[0].split(";")[0] for text in error.value.problems]
    assert found == [
        "conf/sweep/mine.yaml: sweep.parallel=2: is not for runs",
        "conf/sweep/mine.yaml: x: is not of the form key=value",
        "conf/sweep/mine.yaml: method=haf: there is no such option",
        "conf/sweep/mine.yaml: rounds=x: Input should be a valid integer",
        "seed=y: Input should be a valid integer",
    ]
    for words, expected in (
        (["sweep=metods"], "sweep=metods: there is no such option; did you mean methods"),
        (["sweep.parallel=0"], "sweep.parallel=0: Input should be greater than or equal to 1"),
        (["sweep.parallel=1,2"], "sweep.parallel=1,2: names several values; a sweep takes one"),
        (["sweep.paralel=2"], "there is no key sweep.paralel; did you mean parallel"),
        (["sweep.over=[1]"], "sweep.over.0=1: Input should be a valid string"),
        (["sweep.over=['seed=x']"], "sweep.over: seed=x: Input should be a valid integer"),
        (["~sweep"], "~sweep: there is no such option"),
    ):
        with pytest.raises(ConfigError) as error:
            plan(words)
        assert [text for text in error.value.problems if text.startswith(expected)] or (
            expected in str(error.value)
        )
        assert len(error.value.problems) == 1


def test_an_experiment_may_choose_the_list(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /sweep: methods\n"
    (tmp_path / "experiment" / "all.yaml").write_text(text)
    words = [f"hydra.searchpath=['file://{tmp_path}']", "experiment=all", "method=half"]
    (job,) = plan(words).jobs
    assert job.values["method"] == "half"
    assert len(plan([*words[:2], "sweep.over=['seed=1,2']"]).jobs) == 2
    assert len(planning._settings(words[:2], []).over) == 1


def test_more_runs_at_a_time_than_cores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "cpu_count", lambda: 4)
    words = ["seed=range(0,5)", "sweep.parallel=4"]
    assert plan(words).parallel == 4
    with pytest.raises(ConfigError) as error:
        plan(["seed=range(0,5)", "sweep.parallel=5"])
    assert str(error.value) == (
        "sweep.parallel=5: 5 runs need 5 cores, and this machine has 4; lower it"
    )
    with pytest.raises(ConfigError, match=r"^sweep.parallel=4: 4 runs of engine.cpus_per_client=2"):
        plan(["seed=1,2", "rounds=1,2", "engine.cpus_per_client=2", words[1]])
    assert plan([words[0], "engine=superlink", "sweep.parallel=5"]).parallel == 5


def test_what_is_for_the_sweep_changes_no_run() -> None:
    assert [
        word for word in ("sweep=x", "sweep.y=1", "+sweep=x", "sweeps=1", "a=sweep") if is_own(word)
    ] == ["sweep=x", "sweep.y=1", "+sweep=x"]
    assert compose_config(["sweep=methods"])["method"] == compose_config([])["method"]
