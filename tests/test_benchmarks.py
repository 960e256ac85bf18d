"""`scripts/bench`: what `--check` says of made-up rows, and equal distortion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.codecs.nnc import Nnc
from fedcomp.coding import quantise
from fedcomp.errors import ConfigError
from fedcomp.models.base import manifest_of
from fedcomp.models.mlp import MLP
from scripts.benchmarks import __main__ as command
from scripts.benchmarks import baseline
from scripts.benchmarks.distortion import squared_error, step_for
from scripts.benchmarks.nncodec import NO_PIPELINE
from scripts.benchmarks.peers import Stream, WithCodec, beside_peer, smallest
from scripts.benchmarks.rows import Row, bounded
from scripts.benchmarks.updates import ModelUpdate

HERE = {"cores": 2, "processor": "one"}
RATIOS = {"encode": 0.5, "size": 1.0}


def row(name: str, ratio: float) -> Row:
    return Row(name, "s", [ratio], [1.0], "peer")


def runs(*measured: Sequence[Row]) -> Any:
    """Return a benchmark that yields other rows each time."""
    left: Iterator[Sequence[Row]] = iter(measured)
    return lambda: next(left)


def checked(*measured: Sequence[Row], ratios: Any = RATIOS) -> baseline.Verdict:
    return baseline.check(runs(*measured), ratios)[1]


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
    with pytest.raises(StopIteration):  # three times were needed, and no more were asked for
        measure()
    once = runs([fast, row("size", 1.0)])
    baseline.check(once, RATIOS)
    with pytest.raises(StopIteration):
        once()


def test_a_row_that_is_gone_fails_and_a_new_one_does_not() -> None:
    verdict = checked([row("encode", 0.5), row("decode", 9.0), Row("said", "s", [1.0])])
    assert verdict.failed
    assert list(verdict.lines("coding")) == [
        "missing: coding: size; --save takes it out of the baseline",
        "new: coding: decode; --save puts it into the baseline",
    ]
    assert not checked([row("encode", 0.5), row("size", 1.0), row("decode", 9.0)]).failed


def test_a_row_without_its_peer_is_not_compared() -> None:
    alone = Row("encode", "s", [9.0], remark="no peer: build it")
    verdict = checked([alone, row("size", 1.0)])
    assert not verdict.failed
    assert list(verdict.lines("coding")) == ["not compared: coding: encode: no peer: build it"]


@pytest.mark.parametrize(("unit", "failed"), [("s", False), ("ns", False), ("MB", True)])
def test_seconds_beside_a_bound_are_not_compared(unit: str, failed: bool) -> None:
    measured = [bounded("a", unit, [2.0], 1.0)] * 2
    verdict = checked(*[measured] * 3, ratios={"a": 0.5})
    assert verdict.failed == failed
    assert bool(verdict.unknown) != failed
    assert checked(measured, ratios={}).new == (["a"] if failed else [])


def test_save_changes_what_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    about = {"date": "1", "machine": HERE, "versions": {}}
    first = {"a": [row("x", 1.0), row("y", 2.0), row("z", 3.0)], "b": [row("x", 4.0)]}
    baseline.save(first, about, file)
    without_peer = Row("y", "s", [1.0], remark="no peer")
    baseline.save({"a": [row("x", 0.123456), without_peer]}, {**about, "date": "2"}, file)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["a"] == {**about, "date": "2", "ratios": {"x": 0.1235, "y": 2.0}}
    assert found["b"] == {**about, "ratios": {"x": 4.0}}
    with pytest.raises(ConfigError, match="benchmark b has several rows of one name"):
        baseline.save({"b": [row("x", 1.0), row("x", 2.0)]}, about, file)


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
    assert run("--check") == 0
    said = capsys.readouterr()
    assert "no ratio is worse" in said.out
    assert "for they have no baseline: foundation, coding" in said.err
    made[0] = row("encode", 0.6)
    assert run("ecq", "--check") == 1
    said = capsys.readouterr()
    assert "worse: ecq: encode: ratio 0.6, 20% above the baseline's 0.5" in said.out
    assert run("ecq", "--check", "--save") == 2


def test_the_stored_baseline_is_of_benchmarks_that_exist() -> None:
    stored = baseline.read()
    assert stored
    assert set(stored) <= set(command.BENCHMARKS)
    for entry in stored.values():
        assert set(entry) == {"date", "machine", "versions", "ratios"}
        assert all(ratio > 0 for ratio in entry["ratios"].values())


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 2**32), st.floats(0.01, 0.5))
def test_step_of_a_squared_error(seed: int, wanted_step: float) -> None:
    values = np.random.default_rng(seed).normal(size=2000).astype(np.float32)

    def error_of(step: float) -> float:
        seen = quantise.dequantise(quantise.uniform(values, step), step)
        return squared_error({"w": values}, {"w": seen})

    wanted = error_of(wanted_step)
    found = error_of(step_for(error_of, wanted, 0.001, 4.0))
    assert 0.99 * wanted <= found <= wanted


def test_no_step_has_the_squared_error() -> None:
    with pytest.raises(RuntimeError, match="no step from 1 to 2 has squared error 100"):
        step_for(lambda step: step, 100.0, 1.0, 2.0)


@pytest.fixture
def update() -> ModelUpdate:
    """Return what training might change of a small net."""
    manifest = manifest_of(MLP(hidden=(30,)).seeded((1, 8, 8), 10, seed=1))
    rng = np.random.default_rng(3)
    change = {s.name: rng.laplace(0, 1e-3, s.shape).astype(np.float32) for s in manifest.specs}
    return ModelUpdate("mlp", manifest, change, qp=-38)


def test_smallest_loses_no_more_than_the_dependent_quantiser(update: ModelUpdate) -> None:
    error = Stream(update, dependent=True).error()
    own = smallest(update, error)
    assert 0.99 * error <= own.error() <= error

    def uniform(step: float) -> WithCodec:
        return WithCodec(update, Nnc(qp=None, step=step, quantiser="uniform"))

    nearest = uniform(step_for(lambda step: uniform(step).error(), error, 1e-4, 1e-1))
    assert len(own.encoded()) < len(nearest.encoded())


def test_rows_without_the_peer(update: ModelUpdate) -> None:
    rows = list(beside_peer(Stream(update, dependent=True), "stream", None))
    assert [found.name.split(": ")[1] for found in rows] == ["size", "encode", "decode"]
    assert all(found.ratio is None and found.remark == NO_PIPELINE for found in rows)
    assert rows[0].ours == [len(Stream(update, dependent=True).encoded())]
