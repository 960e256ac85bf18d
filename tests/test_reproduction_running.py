"""What is kept of runs: finished ones, with the planned settings, measured on one machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fedcomp.errors import DataError
from scripts.reproductions import __main__ as command
from scripts.reproductions import running
from scripts.reproductions.plan import Job
from tests.report.made import make_run

ONE, TWO = Job("one", "", None, ("a=1",)), Job("two", "", None, ("a=2",))
GIVEN = {job: [*job.words, "data_dir=somewhere"] for job in (ONE, TWO)}
ABOUT = {"date": "2001-02-03", "machine": {"cores": 2}, "versions": {"fedcomp": "1"}}


def note(place: Path, job: Job, **changes: Any) -> None:
    known = {"words": " ".join(job.words), **ABOUT, "net": None, **changes}
    (place / f"{job.folder}.json").write_text(json.dumps(known))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for job in (ONE, TWO):
        make_run(tmp_path / job.folder)
        note(tmp_path, job)
    return tmp_path


def test_figures_are_of_the_days_of_the_runs(place: Path) -> None:
    assert running.measured(GIVEN, place) == ABOUT
    note(place, TWO, date="2001-03-01")
    assert running.measured(GIVEN, place) == {**ABOUT, "date": "2001-02-03 to 2001-03-01"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"words": "a=3"}, r"two was run with other settings \(a=3\)"),
        ({"net": "abc"}, "two was run with other settings .it is of another net"),
        ({"machine": {"cores": 8}}, "runs differ in machine: one: .*; two: .*8"),
        ({"versions": {"fedcomp": "2"}}, "runs differ in versions"),
    ],
)
def test_figures_that_do_not_belong_together_are_not_kept(
    changes: dict[str, Any], reason: str, place: Path
) -> None:
    note(place, TWO, **changes)
    with pytest.raises(DataError, match=reason):
        running.measured(GIVEN, place)


def test_runs_that_are_missing_or_go_on_are_named(place: Path) -> None:
    make_run(place / "three", summary={"status": "running"})
    three = Job("three", "", None, ())
    note(place, three)
    four = Job("four", "", None, ())
    with pytest.raises(DataError, match="three has not finished; four has not finished"):
        running.measured({**GIVEN, three: [], four: []}, place)


def test_a_run_is_left_to_the_process_that_is_at_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(place / ".one.lock"):
        assert not running.run(ONE, GIVEN[ONE], place)
    assert "another process is at it" in capsys.readouterr().err
    assert running.run(ONE, GIVEN[ONE], place)


def test_a_run_of_other_settings_than_the_composed_ones_is_refused(place: Path) -> None:
    words = ["engine=inline", "rounds=3"]
    job = Job("one", "", None, tuple(words))
    note(place, job)
    start = running.resume.Start("1", words, running.compose_config(words))
    start.write(place / "one")
    assert running.run(job, [*words, "data_dir=elsewhere"], place)
    start.config["train"]["lr"] = 9.0
    start.write(place / "one")
    assert not running.run(job, words, place)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("noniid", "seed=7"), "fedavg-iid-seed1 and fedavg-iid-seed2 would be the same run"),
        (("headline", "method=stc", "train.steps=1"), "fedavg and fedcomp would be the same run"),
        (("noniid", "partition=iid"), "would be the same run"),
        (("fsfl", "--full"), "fsfl has no long runs"),
        (("fsfl", "--full", "--quick"), "not allowed with"),
        (("fsfl", "--folder", __file__), "cannot be made: Not a directory"),
    ],
)
def test_words_that_void_a_comparison_are_refused(
    words: tuple[str, ...],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce", *words])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert reason in capsys.readouterr().err


def test_nothing_is_saved_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(command, "save", lambda title, results: kept.append(title))
    monkeypatch.setattr(command, "_run_all", lambda *_: [])
    line = ["reproduce", "fsfl", "--only", "fedavg", "--save", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit, match="nothing is saved: fedavg has not finished; "):
        command.main()
    assert kept == []
