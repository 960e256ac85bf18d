from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread

from fedcomp.report.scales import draw
from tests.common import run_inline


def test_scale_factors_are_drawn_where_there_are_some(tmp_path: Path) -> None:
    for method, expected in (("fsfl", True), ("stc", False)):
        run = run_inline(tmp_path / method, f"method={method}")
        assert (run / "scales.png").exists() == expected
    colours = imread(tmp_path / "fsfl" / "scales.png")[..., :3]
    assert colours.std() > 0.05


def test_the_histogram_counts_every_factor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tops: list[np.ndarray] = []  # type: ignore[type-arg]
    original = Axes.stairs

    def spy(self: Axes, values: np.ndarray, *args: Any, **options: Any) -> Any:  # type: ignore[type-arg]
        tops.append(values)
        return original(self, values, *args, **options)

    monkeypatch.setattr(Axes, "stairs", spy)
    draw([np.array([1.0, 0.9]), np.ones(5), np.array([1.3])], tmp_path / "s.png")
    assert [int(top.sum()) for top in tops] == [8, 7, 2]
    draw([np.ones(4)], tmp_path / "same.png")
    assert int(tops[-1].sum()) == 4
