from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from rich.console import Console

from fedcomp.data.base import Samples
from fedcomp.report.partition import class_counts, draw, table
from fedcomp.tensors import Array

LABELS = np.array([3, 3, 5, 7, 7, 7, 5, 3])
SAMPLES = Samples(np.zeros((8, 1)), LABELS)
PARTS = [np.array([0, 1]), np.array([2, 3, 4]), np.array([5, 6, 7])]


def shown(samples: Samples, parts: list[Array], names: tuple[str, ...] = ()) -> list[list[str]]:
    console = Console(file=StringIO(), width=200)
    console.print(table(samples, parts, names))
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


NAMES = ("zero", "one", "two", "[red]cat", "four", "_five$", "six", "automobiles")


def test_the_table_shows_names_in_a_line_of_80_columns() -> None:
    header = ["client", "samples", "classes", "[red]cat", "_five$", "automobiles"]
    assert shown(SAMPLES, PARTS, NAMES)[0] == header
    assert shown(SAMPLES, PARTS, NAMES[:4])[0][3:] == ["[red]cat", "5", "7"]

    labels = np.arange(120) % 12
    many = Samples(np.zeros((120, 1)), labels)
    names = [f"{at:02}{'x' * 20}" for at in range(12)]
    console = Console(file=StringIO(), width=200)
    console.print(table(many, [np.arange(120)], names))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert 70 < max(len(line) for line in lines) <= 80
    assert lines[0].split()[3:5] == ["00x", "01x"]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, dpi: saved.append(self))
    return saved


def test_bars_are_one_shape_a_class(figures: list[Figure]) -> None:
    draw(SAMPLES, PARTS, Path("unused"), NAMES)
    (axes,) = figures[0].axes
    values = [shape.get_data().values[::2].tolist() for shape in axes.patches]  # type: ignore[attr-defined]
    assert values == [[2, 3, 3], [2, 1, 2], [2, 0, 1]]  # from the back: sums up to each class
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "[red]cat",
        r"_five\$",
        "automobiles",
    ]


def test_many_clients_are_one_image(figures: list[Figure]) -> None:
    labels = np.tile([0, 0, 0, 1], 150)
    parts = np.split(np.arange(600), 150)
    draw(Samples(np.zeros((600, 1)), labels), parts, Path("unused"))
    (axes,) = figures[0].axes
    assert not axes.patches
    (image,) = axes.images
    pixels = np.asarray(image.get_array())
    assert pixels.shape[1] == 150
    drawn = pixels[pixels[:, 7, 3] > 0, 7, :3]
    first = (drawn == drawn[0]).all(axis=1)
    assert first.mean() == pytest.approx(0.75, abs=0.01)
    assert len(drawn) / len(pixels) == pytest.approx(1 / 1.05, abs=0.01)
    assert axes.get_legend() is not None
