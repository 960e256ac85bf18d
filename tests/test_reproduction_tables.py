"""Tables and pictures of the READMEs are those of the stored figures, and of nothing else."""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from scripts.machine import measured_on
from scripts.reproductions import picture, tables
from scripts.reproductions.__main__ import save
from scripts.reproductions.plan import Plan
from scripts.reproductions.results import Results, as_json, collect
from tests.report.made import make_run

PLAN = Plan(
    field=("dataset=digits", "train.steps=7", "fraction=0.3", "partition=dirichlet"),
    runs={"plain": ("method=fedavg",), "sparse_one": ("method=stc",)},
    reference="plain",
)
README = """# Title

<!-- picture one: made -->
old
<!-- end -->
between
<!-- table one: made -->
<!-- end -->
"""


@pytest.fixture
def results(tmp_path: Path) -> dict[str, Any]:
    make_run(tmp_path / "runs" / "plain", (0.1, 0.3, 0.5, 0.6, 0.7), up=9000, down=1000)
    make_run(tmp_path / "runs" / "sparse_one", (0.1, 0.2, 0.4, 0.55, 0.6), up=90, down=10)
    found = collect(PLAN, PLAN.jobs(), tmp_path / "runs")
    return {"about": "What was cut.", **measured_on(), **found, "date": "2001-02-03"}


def project(root: Path, readme: str, others: str, **stored: Results) -> Path:
    """Write a project's READMEs and figures."""
    (root / "conf" / "experiment").mkdir(parents=True)
    (root / "README.md").write_text(readme, "utf-8")
    (root / "conf" / "experiment" / "README.md").write_text(others, "utf-8")
    for name, figures in stored.items():
        (root / "conf" / "experiment" / f"{name}.json").write_text(as_json(figures), "utf-8")
    return root


def test_the_readmes_are_up_to_date() -> None:
    every = tables.stored()
    texts = {name: (tables.ROOT / name).read_text("utf-8") for name in tables.READMES}
    named = {name for text in texts.values() for name in tables.names_of(text)}
    for readme, text in texts.items():
        again = tables.written(text, every, named, readme.parent)
        assert again == text, "run: python -m scripts.reproductions.tables"


@pytest.mark.parametrize("title", sorted(tables.stored()))
def test_stored_figures_are_those_of_all_planned_runs(title: str) -> None:
    name = title.removesuffix("_full")
    module = import_module(f"scripts.reproductions.{name}")
    plan, results = module.PLAN, tables.stored()[title]
    assert results["about"].startswith(" ".join((inspect.getdoc(module) or "").split()))
    jobs = plan.jobs("full" if title != name else "")
    seed = 1 if isinstance(plan, Plan) else None
    planned = {(job.run, job.case, job.seed or seed, " ".join(job.words)) for job in jobs}
    found = results["runs"]
    kept = ("run", "case", "seed", "words")
    assert {tuple(run.get(key) for key in kept) for run in found} == planned
    assert {run["status"] for run in found} == {"finished"}


def test_pictures_are_there_and_show_what_they_should() -> None:
    every = tables.stored()
    for readme in tables.READMES:
        for name in tables.pictured((tables.ROOT / readme).read_text("utf-8")) & every.keys():
            drawn = (tables.ROOT / tables.FIGURES / f"{name}.svg").read_text("utf-8")
            runs = {run["run"] for run in picture.shown(every[name])}
            assert set(re.findall('id="name-(.*?)"', drawn)) == runs
            assert picture.fingerprint(every[name]) in drawn


def test_the_first_page_has_places_for_the_headline() -> None:
    text = (tables.ROOT / "README.md").read_text("utf-8")
    assert tables.pictured(text) == tables.names_of(text) == {"headline"}
    assert "<!-- table headline" in text


def test_every_kept_comparison_has_one_place(tmp_path: Path, results: dict[str, Any]) -> None:
    others = "head\n<!-- table *: made -->\n<!-- end -->\ntail\n"
    root = project(tmp_path / "p", README, others, one=results, two=results, three=results)
    files = tables.write(root)
    assert (root / "conf" / "experiment" / "one.svg") in files
    first = (root / "README.md").read_text("utf-8")
    rest = (root / "conf" / "experiment" / "README.md").read_text("utf-8")
    assert (
        "![accuracy of each method by the bytes sent both ways](conf/experiment/one.svg)" in first
    )
    assert "old" not in first
    assert re.findall("^### (.*)$", rest, re.M) == ["three", "two"]
    assert first.count("| method |") == 1
    assert rest.count("| method |") == 2
    assert (rest[:5], rest[-5:]) == ("head\n", "tail\n")
    tables.write(root)
    assert (root / "README.md").read_text("utf-8") == first


def test_a_table_follows_its_figures(tmp_path: Path, results: dict[str, Any]) -> None:
    root = project(tmp_path / "p", README, "", one=results)
    tables.write(root)
    first = (root / "README.md").read_text("utf-8")
    assert (
        r"| sparse\_one | 4 | 0.6000 | 400 B | 300 × | 300 B | 66.7 × | 44.7 × | 3 | 0.0 s |"
        in first
    )
    results["runs"][1]["final"] = 0.8
    (root / "conf" / "experiment" / "one.json").write_text(as_json(results), "utf-8")
    assert tables.written(first, tables.stored(root), {"one"}, Path()) != first
    (root / "conf" / "experiment" / "one.json").unlink()
    tables.write(root)
    assert "| method |" not in (root / "README.md").read_text("utf-8")


def test_figures_that_are_kept_are_shown(tmp_path: Path, results: dict[str, Any]) -> None:
    root = project(tmp_path / "p", README, "")
    save("one", results, root)
    assert tables.stored(root) == {"one": results}
    assert "| method |" in (root / "README.md").read_text("utf-8")
    assert (root / "conf" / "experiment" / "one.svg").is_file()


def test_a_caption_says_what_was_measured_on_what(results: dict[str, Any]) -> None:
    results["machine"] = {"cores": 3, "processor": "Abacus", "accelerator": "Slide rule"}
    results["versions"] = {"fedcomp": "9.8.7", "torch": "6.5"}
    assert tables.caption(results) == (
        "What was cut. Net small_cnn on digits (partition: dirichlet, alpha 0.5, min_samples 10);"
        " 30% of 10 clients in each round, 7 batches of 16 samples each. “to target”: until"
        " accuracy reached what plain has after half its rounds, 0.5000. Bytes are those of packets"
        " with their headers; “in messages”: how many times fewer with what Flower wraps around"
        " them. Codecs may have been timed beside other runs: `scripts/bench` measures their"
        " speed. One seed: 1. Measured on 2001-02-03: 3 cores, Abacus, Slide rule; fedcomp 9.8.7,"
        " torch 6.5."
    )
    results["runs"][0]["status"] = "running"
    assert "had not finished" in tables.caption(results)


def test_cases_have_targets_of_their_own(results: dict[str, Any]) -> None:
    more = [{**run, "case": "odd", "seed": 2, "target": 0.25} for run in results["runs"]]
    results["runs"] += [*more, {**more[0], "seed": 3, "target": 0.3}]
    results["runs"][0]["case"] = results["runs"][1]["case"] = "even"
    said = tables.caption(results)
    assert "0.5000 (even), 0.2500 to 0.3000 (odd)." in said
    assert "partition" not in said
    assert "Seeds 1, 2, 3: means" in said


def test_figures_survive_their_file_and_hold_the_curves(results: dict[str, Any]) -> None:
    text = as_json(results)
    assert json.loads(text) == results
    assert '"rounds": [0, 1, 2, 3, 4]' in text
    assert results["runs"][0]["curve"] == {
        "rounds": [0, 1, 2, 3, 4],
        "scores": [0.1, 0.3, 0.5, 0.6, 0.7],
        "sent_bytes": [0, 10000, 20000, 30000, 40000],
    }


def test_a_long_curve_is_thinned_to_its_ends(tmp_path: Path) -> None:
    make_run(tmp_path / "plain", tuple(n / 1000 for n in range(501)))
    (run,) = collect(PLAN, PLAN.jobs(), tmp_path)["runs"]
    rounds = run["curve"]["rounds"]
    assert rounds[:4] == [0, 1, 2, 3]
    assert rounds[-1] == 500
    assert len(rounds) <= 61
    assert run["curve"]["scores"] == [n / 1000 for n in rounds]
    assert run["curve"]["sent_bytes"] == [1500 * n for n in rounds]


def test_a_picture_needs_the_figures_alone(results: dict[str, Any]) -> None:
    read = json.loads(as_json(results))
    drawn = picture.draw(read)
    assert set(re.findall('id="name-(.*?)"', drawn)) == {"plain", "sparse_one"}
    assert "<text" not in drawn
    assert picture.draw(read) == drawn
    read["runs"][1]["curve"]["scores"][-1] = 0.9
    assert picture.draw(read) != drawn


def test_a_picture_shows_one_seed_of_one_case(results: dict[str, Any]) -> None:
    runs = results["runs"]
    results["runs"] = [*runs, *({**run, "seed": 2} for run in runs), {**runs[0], "case": "other"}]
    assert picture.shown(results) == runs
    results["drawn"] = [runs[1]["run"]]
    assert picture.shown(results) == runs[1:]


def test_a_run_that_sent_nothing_is_left_out_of_the_picture(tmp_path: Path) -> None:
    make_run(tmp_path / "plain", (0.1, 0.3, 0.5))
    make_run(tmp_path / "sparse_one", (0.1,))
    drawn = picture.draw(collect(PLAN, PLAN.jobs(), tmp_path))
    assert re.findall('id="name-(.*?)"', drawn) == ["plain"]
