"""Colours that all eyes tell apart, or dashes where they do not; labels that cover nothing."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from fedcomp.config import group_choices
from fedcomp.report.comparison.inline_svg import lighter
from fedcomp.report.comparison.page_style import STYLE
from fedcomp.report.plots.drawing import PAPER
from fedcomp.report.plots.labels import SIZE, End, put, spread
from fedcomp.report.plots.palette import METHODS, Look, look_of, looks

Array = np.ndarray[Any, Any]

# Machado, Oliveira and Fernandes (2009), severity 1: what linear RGB looks like.
EYES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
    "all cones": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
}  # fmt: skip
APART = 15.0  # CIE76; a just noticeable difference is 2.3


def linear(colour: str) -> Array:
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: Array) -> Array:
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_every_method_has_a_look_of_its_own() -> None:
    assert set(METHODS) == set(group_choices()["method"])
    assert len(set(METHODS.values())) == len(METHODS)
    assert all(look.marker == "" for look in METHODS.values())


def test_colours_stand_out_from_white_paper_and_from_dark_pages() -> None:
    dark = "#15181c"
    assert f"--paper: {dark}" in STYLE
    assert f"--paper: {PAPER}" in STYLE
    for look in METHODS.values():
        assert contrast(look.colour, PAPER) >= 3
        assert contrast(lighter(look.colour), dark) >= 4.5


@pytest.mark.parametrize("eyes", EYES)
def test_methods_that_look_alike_differ_in_their_dashes(eyes: str) -> None:
    matrix = np.array(EYES[eyes])
    for (one, a), (other, b) in combinations(METHODS.items(), 2):
        apart = np.linalg.norm(lab(matrix @ linear(a.colour)) - lab(matrix @ linear(b.colour)))
        assert apart >= APART or a.dashes != b.dashes, (one, other, apart)


def test_a_method_looks_the_same_whoever_is_beside_it() -> None:
    names = ["mine", "stc", "fedavg", "theirs", "fsfl"]
    alone = {name: looks([name])[0] for name in names}
    together = dict(zip(names, looks(names), strict=True))
    assert alone == together
    assert look_of("mine") == look_of("mine") != look_of("theirs")
    assert looks(["stc", "stc"])[0] == METHODS["stc"]


def test_many_lines_of_one_method_differ_in_their_marks() -> None:
    found = looks(["stc"] * 5)
    assert len(set(found)) == 5
    assert {look.colour for look in found} == {METHODS["stc"].colour}


PLACES = st.lists(st.floats(-50, 50), min_size=1, max_size=12)


@settings(deadline=None)
@given(PLACES, st.floats(0.1, 20))
def test_labels_are_moved_apart_and_no_farther_than_needed(wanted: list[float], gap: float) -> None:
    found = spread(np.array(wanted), gap, -1e6, 1e6)
    order = np.argsort(wanted, kind="stable")
    assert np.all(np.diff(found[order]) >= gap - 1e-9)
    if len(wanted) == 1 or np.diff(np.sort(wanted)).min() >= gap:
        np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert np.mean(found) == pytest.approx(np.mean(wanted), abs=1e-6)  # as in least squares


@settings(deadline=None)
@given(PLACES)
def test_labels_stay_within_bounds_where_they_fit(wanted: list[float]) -> None:
    found = spread(np.array(wanted), 5.0, -60, 60)
    assert found.min() >= -60 - 1e-9
    assert found.max() <= 60 + 1e-9


def drawn(ends: list[End], lines: list[tuple[Array, Array]]) -> tuple[Figure, list[Array]]:
    figure = Figure(figsize=(6, 4))
    axes = figure.add_axes((0.1, 0.1, 0.6, 0.8))
    for x, y in lines:
        axes.plot(x, y)
    axes.set(xlim=(0, 10), ylim=(0, 1))
    put(axes, ends)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text).get_points() for text in axes.texts]
    return figure, boxes


def test_labels_cover_neither_each_other_nor_lines() -> None:
    x = np.linspace(0, 10, 50)
    flat, steep = (x[:20], np.full(20, 0.5)), (x, x / 10)
    ends = [End(float(x[19]), 0.5, "flat", "red"), End(10, 1.0, "steep", "blue")]
    ends += [End(10, 0.98, "beside", "green"), End(10, 0.99, "between", "black")]
    _, boxes = drawn(ends, [flat, steep, (x, np.full(50, 0.52))])
    for one, other in combinations(boxes, 2):
        assert (one[0] >= other[1]).any() or (other[0] >= one[1]).any(), (one, other)
    (left, low), (right, high) = boxes[0]
    assert right - left > 2 * SIZE
    figure, _ = drawn([], [])
    for px, py in figure.axes[0].transData.transform(np.stack([x, np.full(50, 0.52)], axis=1)):
        assert not (left < px < right and low < py < high)


def test_no_label_is_no_mistake() -> None:
    _, boxes = drawn([], [])
    assert boxes == []
    assert looks([]) == []
    assert Look("#000000").marker == ""
