"""`scripts/reproduce` with `fedcomp-quantise`: who reads which words, the order, and the table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.reproductions import __main__ as command
from scripts.reproductions import running
from scripts.reproductions.plan import Job
from scripts.reproductions.quantised import collect, columns
from scripts.reproductions.quantising import TRAINED, Quantising

PLAN = Quantising(
    field=("engine=inline", "dataset=digits", "train.lr=0.1", "train.momentum=0.5"),
    runs={"plain": ("quantiser=nearest",), "priced": ("quantiser=ecq", "bits=3")},
    quick=("rounds=1", "samples=9", "seed=2"),
)


def write_figures(place: Path, accuracy: float, size: int) -> None:
    place.mkdir(parents=True)
    figures = {
        "metric": "accuracy",
        "before": {"test": {"accuracy": 0.75}, "validation": {"accuracy": 0.8}},
        "after": {"test": {"accuracy": accuracy}, "validation": {"accuracy": 0.1}},
        "bytes": size,
        "float_bytes": 8000,
        "ratio": 8000 / size,
        "sparsity": 0.25,
        "bits_per_weight": 2.5,
        "seconds": 61.0,
    }
    (place / "quantise.json").write_text(json.dumps(figures))


def test_each_command_gets_the_words_that_it_reads() -> None:
    training, plain, priced = PLAN.jobs("quick")
    shared = ("dataset=digits", "train.momentum=0.5")
    alone = ("engine=inline", "dataset=digits", "train.lr=0.1", "train.momentum=0.5")
    assert training == Job(TRAINED, "", None, (*alone, "rounds=1", "seed=2"))
    last = ("samples=9", "seed=2")
    assert plain == Job("plain", "", None, (*shared, "quantiser=nearest", *last), TRAINED)
    assert priced.words == (*shared, "quantiser=ecq", "bits=3", *last)
    more = ["data_dir=x", "gamma=1", "fraction=0.5", "dataset.verify=false", "typo=1"]
    for job in (training, priced):
        given = PLAN.given(job, more)[len(job.words) :]
        assert "data_dir=x" in given
        assert "dataset.verify=false" in given
        assert ("fraction=0.5" in given, "typo=1" in given) == (job is training,) * 2
        assert ("gamma=1" in given) == (job is priced)


def test_the_table_begins_with_the_net_as_it_was(tmp_path: Path) -> None:
    jobs = list(PLAN.jobs())
    assert collect(jobs, tmp_path)["runs"] == []
    write_figures(tmp_path / "priced", 0.5, 1000)
    write_figures(tmp_path / "plain", 0.7, 2000)
    results = collect(jobs, tmp_path)
    assert [entry["run"] for entry in results["runs"]] == [TRAINED, "plain", "priced"]
    assert results["metric"] == "accuracy"
    assert results["runs"][2]["words"] == " ".join(jobs[2].words)
    made = {c.title: [cell.text for cell in c.cells] for c in columns(results)}
    assert made["accuracy"] == ["0.7500", "0.7000", "0.5000"]
    assert made["size"] == ["8.0 kB", "2.0 kB", "1.0 kB"]
    assert made["ratio"] == ["1.0 ×", "4.0 ×", "8.0 ×"]
    assert made["zeros"] == ["–", "25.0%", "25.0%"]
    assert made["time"] == ["–", "1:01", "1:01"]


def reproduce(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> None:
    given = ["reproduce", "quantise", "--quick", "--folder", str(folder), *words]
    monkeypatch.setattr(sys, "argv", given)
    command.main()


@pytest.mark.parametrize("works", [True, False])
def test_the_net_is_trained_before_it_is_quantised_or_nothing_is(
    works: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []

    def called(line: list[str], **_: Any) -> Any:
        begun.append(line[3:])
        return type("Done", (), {"returncode": 0 if works else 1})()

    monkeypatch.setattr(subprocess, "run", called)
    monkeypatch.setattr(running, "measured_on", dict)  # asks the machine by such processes
    if works:
        reproduce(monkeypatch, tmp_path, "--only", "ecq_4_bits", "seed=7")
    else:
        with pytest.raises(SystemExit, match="trained failed"):
            reproduce(monkeypatch, tmp_path, "seed=7")
    assert [line[0] for line in begun] == ["fedcomp", "fedcomp.quantise"][: 1 + works]
    assert all("seed=7" in line for line in begun)
    if works:
        net = tmp_path / "quantise_quick" / TRAINED / "model.safetensors"
        assert f"checkpoint='{net}'" in begun[1]


def test_a_net_is_quantised_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--only", "ecq_3_bits", "model=mlp", "samples=64", "epochs=1")
    reproduce(monkeypatch, tmp_path, *words)
    assert "bits/weight" in capsys.readouterr().out
    reproduce(monkeypatch, tmp_path, *words)
    assert capsys.readouterr().out.count("there already") == 2
    figures = tmp_path / "quantise_quick" / "ecq_3_bits" / "quantise.json"
    assert json.loads(figures.read_text())["settings"]["bits"] == 3
