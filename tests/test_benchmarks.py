"""`scripts/bench`: what `--check` and `--save` make of made-up rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.errors import ConfigError
from scripts.benchmarks import __main__ as command
from scripts.benchmarks import baseline
from scripts.benchmarks.rows import Row, bounded, missed
from scripts.benchmarks.timing import in_turns
from scripts.benchmarks.verdict import Verdict, conclusion

HERE = {"cores": 2, "processor": "one"}
RATIOS = {"encode": 0.5, "size": 1.0}


def row(name: str, ratio: float) -> Row:
    return Row(name, "s", [ratio], [1.0], "peer")


def runs(*measured: Sequence[Row]) -> Any:
    """Return a benchmark that yields other rows each time."""
    left: Iterator[Sequence[Row]] = iter(measured)
    return lambda: next(left)


def checked(*measured: Sequence[Row], ratios: Any = RATIOS) -> Verdict:
    return baseline.check(runs(*measured), ratios)[1]


def test_of_short_calls_the_least_of_a_turn_counts() -> None:
    short = iter([9.0, 0.01, 0.02, 0.01, 0.03, 0.04])
    longer = iter([9.0, 0.05, 0.07, 0.06, 0.05, 0.08])
    found = in_turns(lambda: next(short), None, lambda: next(longer), repeats=2)
    assert found == ([0.01, 0.03], [], [0.06, 0.05])
    assert in_turns(lambda: 0.0, repeats=3) == ([0.0] * 3,)


@given(st.floats(0.01, 100), st.floats(0.1, 3))
def test_worse_by_more_than_the_margin(before: float, factor: float) -> None:
    measured = [[row("a", factor * before)]] * (1 + baseline.AGAIN)
    verdict = checked(*measured, ratios={"a": before})
    assert verdict.failed == (factor * before > 1.15 * before)


def test_fourteen_percent_pass_and_sixteen_fail() -> None:
    assert not checked([row("encode", 0.5 * 1.14), row("size", 0.5)]).failed
    verdict = checked(*[[row("encode", 0.5 * 1.16), row("size", 1.0)]] * 3)
    assert verdict.failed
    assert list(verdict.lines("coding")) == [
        "worse: coding: encode: ratio 0.58, 16% above the baseline's 0.5"
    ]


def test_the_best_of_three_counts() -> None:
    slow, fast = row("encode", 0.9), row("encode", 0.52)
    measure = runs([slow, row("size", 1.0)], [slow, row("size", 0.9)], [fast, row("size", 1.3)])
    rows, verdict = baseline.check(measure, RATIOS)
    assert not verdict.failed
    assert [found.ratio for found in rows] == [0.52, 0.9]
    assert verdict.compared == 2
    with pytest.raises(StopIteration):  # three times were needed, and no more were asked for
        measure()
    once = runs([fast, row("size", 1.0)])
    baseline.check(once, RATIOS)
    with pytest.raises(StopIteration):
        once()


def test_a_peer_that_was_held_up_hides_nothing() -> None:
    ours, held_up = (
        [Row("encode", "s", [1.3], [1.0], "peer")],
        Row("encode", "s", [1.4], [1.3], "peer"),
    )
    measured = ours, ours, [held_up]
    assert checked(*measured, ratios={"encode": 1.0}).worse == {"encode": (1.0, 1.3)}
    assert baseline.typical(runs([held_up], ours, ours))[0].ratio == 1.3


def test_targets_that_are_missed_are_named() -> None:
    rows = [Row("a", "s", [2.0], [1.0], "peer", 1.5), Row("b", "s", [1.0], [1.0], "peer", 1.5)]
    assert list(missed(rows)) == ["target missed: a: ratio 2, at most 1.5 asked"]


def test_a_baseline_of_another_machine_says_so() -> None:
    there = {"machine": HERE, "versions": {"torch": "1"}}
    assert not baseline.differences(there, there)
    here = {"machine": {**HERE, "cores": 4}, "versions": {"torch": "3", "numpy": "2"}}
    said = "cores 2 there, 4 here; torch 1 there, 3 here"
    assert baseline.differences(there, here) == said


def test_a_row_that_is_gone_fails_and_a_new_one_does_not() -> None:
    verdict = checked([row("encode", 0.5), row("decode", 9.0), Row("said", "s", [1.0])])
    assert verdict.failed
    assert list(verdict.lines("coding")) == [
        "missing: coding: size; --save takes it out of the baseline",
        "new: coding: decode; --save puts it into the baseline",
    ]
    assert not checked([row("encode", 0.5), row("size", 1.0), row("decode", 9.0)]).failed


def test_a_row_without_its_peer_is_not_compared() -> None:
    alone = Row("encode", "s", [9.0], kind="peer", remark="no peer: build it")
    verdict = checked([alone, row("size", 1.0)])
    assert not verdict.failed
    line = "not compared: coding: encode: no peer: build it"
    assert list(verdict.lines("coding")) == [line]
    said = list(conclusion({"coding": verdict}, {}, failed=False))
    assert said == [line, "no ratio that was compared is worse"]


@pytest.mark.parametrize(("unit", "failed"), [("s", False), ("ns", False), ("MB", True)])
def test_seconds_beside_a_bound_are_not_compared(unit: str, failed: bool) -> None:
    measured = [bounded("a", unit, [2.0], 1.0)]
    verdict = checked(*[measured] * 3, ratios={"a": 0.5})
    assert verdict.failed == failed
    assert bool(verdict.unknown) != failed
    assert checked(measured, ratios={}).new == (["a"] if failed else [])


def test_save_changes_what_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    about = {"date": "1", "machine": HERE, "versions": {}}
    first = {"a": [row("x", 1.0), row("y", 2.0), row("z", 3.0)], "b": [row("x", 4.0)]}
    baseline.save(first, about, file)
    said, bound = Row("y", "s", [1.0]), bounded("z", "s", [1.0], 2.0)
    again = {"a": [row("x", 0.123456), said, bound]}
    assert not baseline.save(again, {**about, "date": "2"}, file)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["a"] == {**about, "date": "2", "ratios": {"x": 0.1235}}
    assert found["b"] == {**about, "ratios": {"x": 4.0}}


def test_save_leaves_a_benchmark_without_its_peer_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    about = {"date": "1", "machine": HERE, "versions": {}}
    baseline.save({"a": [row("x", 1.0), row("y", 2.0)]}, about, file)
    alone = Row("y", "s", [1.0], kind="peer", remark="no peer: build it")
    measured = {"a": [row("x", 0.5), alone], "b": [alone], "c": [row("x", 3.0)]}
    assert baseline.save(measured, {**about, "date": "2"}, file) == {
        "a": "1 of its 2 rows were not measured: no peer: build it",
        "b": "1 of its 1 rows were not measured: no peer: build it",
    }
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["a"] == {**about, "ratios": {"x": 1.0, "y": 2.0}}
    assert found["c"]["date"] == "2"
    assert "b" not in found


def test_a_baseline_is_the_middle_of_three() -> None:
    values = (1.0, 2.0), (3.0, 0.5), (9.0, 1.5)
    measure = runs(*([row("x", x), row("y", y)] for x, y in values), [])
    assert [found.ratio for found in baseline.typical(measure)] == [3.0, 1.5]
    assert measure() == []  # no more than three were asked for
    once = runs([bounded("x", "s", [1.0], 2.0)], [])
    baseline.typical(once)  # there is no ratio to keep
    assert once() == []
    with pytest.raises(ConfigError, match="several rows have one name"):
        baseline.typical(runs([row("x", 1.0), row("x", 2.0)]))


@pytest.mark.parametrize(
    ("measured", "ratios", "reason"),
    [
        ([bounded("a", "s", [1.0], 2.0)], {}, "has no ratio that lasts"),
        ([row("a", 1.0)], {}, "none of its rows is in the baseline"),
        ([Row("a", "s", [1.0], kind="peer", remark="no peer")], {"a": 1.0}, "no peer"),
    ],
)
def test_a_benchmark_of_which_no_row_was_compared(
    measured: Sequence[Row], ratios: dict[str, float], reason: str
) -> None:
    verdict = checked(measured, ratios=ratios)
    last = list(conclusion({"a": verdict}, {}, failed=False))[-2:]
    assert last == ["nothing was compared", f"not compared: a: {reason}"]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Return the rows of a benchmark `ecq` that is made up, with a baseline of its own."""
    rows = [row("encode", 0.5)]
    monkeypatch.setattr(command, "_measured", lambda name: rows)
    file = tmp_path / "baseline.json"
    monkeypatch.setattr(baseline.read, "__defaults__", (file,))
    monkeypatch.setattr(baseline.save, "__defaults__", (file,))
    return rows


def test_command(made: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> Any:
        with pytest.raises(SystemExit) as left:
            command.main(words)
        return left.value.code

    assert run("ecq", "--check") == 2
    assert "there is no baseline of ecq; scripts/bench ecq --save" in capsys.readouterr().err
    assert run("ecq", "--save") == 0
    assert run("ecq", "--check") == 0
    assert capsys.readouterr().out.endswith("\nno ratio is worse\n")
    measured, made[0] = made[0], bounded("encode", "s", [1.0], 2.0)
    assert run("codecs", "--save") == 0
    made[0] = measured
    capsys.readouterr()
    assert run("--check") == 0
    last = capsys.readouterr().out.partition("\nno ratio that was compared is worse\n")[2]
    assert last.splitlines()[0] == (
        "not compared: foundation: has no baseline: scripts/bench foundation --save"
    )
    assert "not compared: codecs: has no ratio that lasts" in last.splitlines()
    assert "ecq" not in last
    made[0] = row("encode", 0.6)
    assert run("ecq", "--check") == 1
    said = capsys.readouterr()
    assert "worse: ecq: encode: ratio 0.6, 20% above the baseline's 0.5" in said.out
    assert run("ecq", "--check", "--save") == 2
    made[0] = Row("encode", "s", [1.0], kind="peer", remark="no peer: build it")
    assert run("ecq", "--check") == 1
    assert "nothing was compared" in capsys.readouterr().out


def test_a_benchmark_that_fails_keeps_nothing_from_the_others(
    made: list[Row],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def measured(name: str) -> list[Row]:
        if name == "data":
            raise RuntimeError("child ended with 1:\n  a log\nValueError: no disk")
        lacking = [Row("size", "B", [1.0], kind="peer", remark="no peer: build it")]
        return lacking if name == "peers" else made

    monkeypatch.setattr(command, "_measured", measured)
    file = tmp_path / "rows.json"
    with pytest.raises(SystemExit, match=r"^1$"):
        command.main(["data", "ecq", "peers", "--save", "--json", str(file)])
    said = capsys.readouterr()
    at = "test_benchmarks.py:"
    failed, *last = said.err.splitlines()
    assert failed.startswith(
        f"failed: data: RuntimeError: child ended with 1: … ValueError: no disk ({at}"
    )
    unsaved = "not saved: peers: 1 of its 1 rows were not measured: no peer: build it"
    assert last == [failed, unsaved]
    assert "encode" in said.out
    assert [found["name"] for found in json.loads(file.read_text("utf-8"))["rows"]] == [
        "encode",
        "size",
    ]
    assert set(baseline.read()) == {"ecq"}
    (tmp_path / "baseline.json").write_text('{"data": {"ratios": {"a": 1}}}', encoding="utf-8")
    with pytest.raises(SystemExit, match=r"^1$"):
        command.main(["data", "--check"])
    assert "the check failed" in capsys.readouterr().out


def test_what_was_saved_stays_when_interrupted(
    made: list[Row], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(name: str) -> list[Row]:
        if name == "data":
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(command, "_measured", measured)
    with pytest.raises(SystemExit, match=r"^130$"):
        command.main(["ecq", "data", "peers", "--save"])
    said = capsys.readouterr()
    assert "encode" in said.out
    assert said.err == "interrupted: not measured: data, peers\n"
    assert set(baseline.read()) == {"ecq"}
    baseline.save({"data": made}, {"machine": HERE, "versions": {}})
    with pytest.raises(SystemExit, match=r"^130$"):
        command.main(["ecq", "data", "--check"])
    said = capsys.readouterr()
    assert said.out.endswith(
        "no ratio that was compared is worse\nnot compared: data: interrupted\n"
    )


def test_a_damaged_baseline_is_named(
    made: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert made
    (tmp_path / "baseline.json").write_text("<<<<<<<", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"^2$"):
        command.main(["ecq", "--check"])
    assert "baseline.json is damaged" in capsys.readouterr().err


def test_json_is_refused_for_a_folder(
    made: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        command.main(["ecq", "--json", str(tmp_path)])
    assert f"--json {tmp_path} is a folder; name a file" in capsys.readouterr().err


def test_the_stored_baseline_is_of_benchmarks_that_exist() -> None:
    stored = baseline.read()
    assert stored
    assert set(stored) <= set(command.BENCHMARKS)
    for entry in stored.values():
        assert set(entry) == {"date", "machine", "versions", "ratios"}
        assert all(ratio > 0 for ratio in entry["ratios"].values())
