from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from fedcomp.errors import RunInterrupted
from fedcomp.report import run_picture
from fedcomp.report.observer import Observer, RoundResult
from fedcomp.report.runs import Run, read_run
from tests.common import read_summary, run_inline
from tests.report.made import make_run


def picture(folder: Path) -> np.ndarray[Any, Any]:
    return np.asarray(imread(folder / "curves.png"))[..., :3]


def test_every_run_draws_its_curves(tmp_path: Path) -> None:
    run = run_inline(tmp_path, "method=stc", "rounds=3", "strategy.fraction_evaluate=1.0")
    pixels = picture(run)
    height, width, _ = pixels.shape
    assert 2.5 < width / height < 4
    for third in np.array_split(pixels, 3, axis=1):
        assert np.isclose(third, [0xD5 / 255, 0x5E / 255, 0], atol=0.02).all(axis=2).sum() > 50


def test_a_run_that_is_cut_off_and_goes_on_draws_all_of_its_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def spied(run: Run, targets: Any) -> bytes:
        seen.append(run.rounds)
        return draw_run(run, targets)

    draw_run = run_picture.draw
    monkeypatch.setattr(run_picture, "draw", spied)
    words = ("method=stc", "rounds=4", "checkpoint_every=1")

    class Cut(Observer):
        def on_round(self, result: RoundResult) -> None:
            if result.round == 2:
                raise RunInterrupted

    with pytest.raises(RunInterrupted):
        run_inline(tmp_path, *words, observers=[Cut()])
    run_inline(tmp_path, *words, resumed=True)
    assert seen == [2, 4]


@pytest.mark.parametrize("damage", ["rounds", "disk"])
def test_no_run_fails_by_its_picture(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(data: bytes, path: Path) -> None:
        raise OSError(28, "No space left on device")

    class Tears(Observer):
        def on_round(self, result: RoundResult) -> None:
            if damage == "rounds":
                path = tmp_path / "rounds.csv"
                path.write_text(path.read_text().replace("accuracy", "?"))

    if damage == "disk":
        monkeypatch.setattr(run_picture, "save_bytes", full)
    run_inline(tmp_path, observers=[Tears()])
    assert read_summary(tmp_path)["status"] == "finished"
    assert not (tmp_path / "curves.png").exists()
    (line,) = (r.getMessage() for r in caplog.records if "curves.png" in r.getMessage())
    assert ("No space left" if damage == "disk" else "rounds.csv") in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("rounds", [1, 2, 400])
def test_runs_of_any_length_are_drawn(rounds: int, tmp_path: Path) -> None:
    """Before the first byte, and of a metric that is no number."""
    scores = [0.1 + 0.8 * n / rounds for n in range(rounds)]
    for name, values in (("some", scores), ("none", [float("nan")] * rounds)):
        run = read_run(make_run(tmp_path / name, tuple(values)))
        assert run is not None
        (tmp_path / name / "curves.png").write_bytes(run_picture.draw(run, (0.5,)))
        assert picture(tmp_path / name).std() > 0.05
