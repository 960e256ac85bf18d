from __future__ import annotations

import io
from pathlib import Path

import pytest
from matplotlib.image import imread
from rich.console import Console

from fedcomp.errors import DataError
from fedcomp.report.curves import Curve, comparison, draw, read_curve
from tests.common import read_csv, read_summary, run_inline


def printed(
    curves: list[Curve], reference: Curve, target: float, budget: int | None = None
) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=160)
    console.print(comparison(curves, reference, target, budget))
    file = console.file
    assert isinstance(file, io.StringIO)
    return [line.split() for line in file.getvalue().splitlines()]


def test_a_curve_is_that_of_the_files(tmp_path: Path) -> None:
    run = run_inline(tmp_path, "method=half", "rounds=3", "strategy.fraction_evaluate=1.0")
    curve = read_curve(run)
    summary = read_summary(run)
    assert (curve.name, curve.metric, len(curve.scores)) == ("half", "accuracy", 4)
    assert curve.scores[-1] == summary["final_accuracy"]
    assert curve.sent[-1] == summary["total_bytes"]
    assert curve.reference_bytes == summary["reference_bytes"]
    first = read_csv(run / "rounds.csv")[1]
    assert curve.sent[1] == sum(
        int(first[f"{kind}_bytes"]) for kind in ("uplink", "downlink", "evaluation")
    )


def test_bytes_to_a_target_are_compared() -> None:
    plain = Curve("plain", "accuracy", (0.1, 0.5, 0.6), (0, 4000, 8000), 8000)
    sparse = Curve("sparse", "accuracy", (0.1, 0.3, 0.5, 0.55), (0, 10, 20, 30), 12000)
    never = Curve("never", "accuracy", (0.1, 0.2), (0, 0), 0)
    rows = printed([plain, sparse, never], plain, 0.5)
    assert rows[1][0] == "plain"
    assert rows[1][-5:] == ["1", "4.0", "kB", "1.0", "×"]
    assert rows[2][:4] == ["sparse", "3", "0.5500", "0.5500"]
    assert rows[2][-5:] == ["2", "20", "B", "200.0", "×"]
    assert rows[3][-4:] == ["–", "–", "–", "–"]


def test_bytes_of_the_uplink_are_compared_alone(tmp_path: Path) -> None:
    run = run_inline(tmp_path, "method=half", "rounds=2", "strategy.fraction_evaluate=1.0")
    curve, summary = read_curve(run, "up", "uplink"), read_summary(run)
    assert curve.sent[-1] == summary["uplink_bytes"] < read_curve(run).sent[-1]
    assert 2 * curve.reference_bytes == summary["reference_bytes"]
    rows = printed([curve], curve, 0.0)
    assert [word for word in rows[0] if word in ("sent", "up")] == ["sent", "up"] * 2


def test_what_a_budget_pays_for_is_shown_with_its_round() -> None:
    plain = Curve("plain", "accuracy", (0.1, 0.5, 0.6), (0, 4000, 8000), 8000)
    sparse = Curve("sparse", "accuracy", (0.1, 0.3, 0.5, 0.55), (0, 10, 20, 30), 12000)
    rows = printed([plain, sparse], plain, 0.5, 5000)
    assert [row[-2:] for row in rows[1:3]] == [["0.5000", "(1)"], ["0.5500", "(3)"]]
    assert " ".join(rows[0]).endswith("accuracy (round) for 5.0 kB")


def test_curves_are_drawn(tmp_path: Path) -> None:
    one = Curve("one", "map", (0.1, 0.5), (0, 4000), 8000)
    nothing_sent = Curve("two", "map", (0.1,), (0,), 0)
    draw([one, nothing_sent], tmp_path / "curves.png", 0.4)
    assert imread(tmp_path / "curves.png")[..., :3].std() > 0.05
    draw([one] * 23, tmp_path / "many.png")
    assert (tmp_path / "many.png").stat().st_size > 1000


@pytest.mark.parametrize("damage", ["", "round,accuracy\n", "round,accuracy\n0,much\n"])
def test_a_table_that_is_none_is_named(damage: str, tmp_path: Path) -> None:
    run = run_inline(tmp_path)
    (run / "rounds.csv").write_text(damage)
    with pytest.raises(DataError, match=r"rounds\.csv"):
        read_curve(run)
