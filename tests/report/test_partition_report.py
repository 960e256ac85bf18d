from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
from matplotlib.image import imread
from rich.console import Console

from fedcomp.data.base import Samples
from fedcomp.report.partition import class_counts, draw, table

LABELS = np.array([3, 3, 5, 7, 7, 7, 5, 3])
SAMPLES = Samples(np.zeros((8, 1)), LABELS)
PARTS = [np.array([0, 1]), np.array([2, 3, 4]), np.array([5, 6, 7])]


def shown(samples: Samples, parts: list[np.ndarray]) -> list[list[str]]:  # type: ignore[type-arg]
    console = Console(file=StringIO(), width=200)
    console.print(table(samples, parts))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [line.split() for line in lines if line.strip()]


def test_counts_and_table_name_the_classes() -> None:
    assert class_counts(SAMPLES, PARTS).tolist() == [[2, 0, 0], [0, 1, 2], [1, 1, 1]]
    assert shown(SAMPLES, PARTS) == [
        ["client", "samples", "classes", "3", "5", "7"],
        ["0", "2", "1", "2", "0", "0"],
        ["1", "3", "2", "0", "1", "2"],
        ["2", "3", "3", "1", "1", "1"],
    ]


def test_of_many_clients_and_classes_some_are_shown() -> None:
    labels = np.arange(60 * 61 // 2) % 50
    parts = np.split(np.arange(len(labels)), np.cumsum(np.arange(1, 60)))
    rows = shown(Samples(np.zeros((len(labels), 1)), labels), parts)
    assert rows[0] == ["client", "samples", "classes", "largest", "class"]
    assert [rows[1][:3], rows[10][:3]] == [["0", "1", "1"], ["59", "60", "50"]]
    assert " ".join(rows[11]).startswith("10 of 60 clients")
    assert len(rows) == 12


def test_the_picture_has_a_bar_for_each_client(tmp_path: Path) -> None:
    draw(SAMPLES, PARTS, tmp_path / "partition.png")
    picture = imread(tmp_path / "partition.png")
    colours = {tuple(pixel) for pixel in (picture[:, :, :3] * 255).astype(int).reshape(-1, 3)}
    assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= colours
