from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.image import imread

from fedcomp.errors import DataError
from scripts.reproductions.curves import Curve, draw, read_curve
from tests.common import read_csv, read_summary, run_inline


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


def test_bytes_of_the_uplink_are_compared_alone(tmp_path: Path) -> None:
    run = run_inline(tmp_path, "method=half", "rounds=2", "strategy.fraction_evaluate=1.0")
    curve, summary = read_curve(run, "up", "uplink"), read_summary(run)
    assert curve.sent[-1] == summary["uplink_bytes"] < read_curve(run).sent[-1]
    assert 2 * curve.reference_bytes == summary["reference_bytes"]


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
