"""Where labels stand at the ends of lines, so that none covers another."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.transforms import Transform
    from numpy.typing import ArrayLike

    from fedcomp.tensors import Array

SIZE = 9.0
_GAP = 1.25 * SIZE
_ASIDE = 5.0
_STEP = 2.0
_FAR = 6.0  # from here on a thin line leads from the label to its end


class End(NamedTuple):
    """The last point of a line, and what it is called."""

    x: float
    y: float
    text: str
    colour: str
    key: str = ""


def spread(wanted: Array, gap: float, low: float, high: float) -> Array:
    """Move places apart, as little as possible in the sum of squares, within bounds if they fit.

    That is isotonic regression of the places less what those below them take: neighbours that are
    too close are merged to blocks, which stand where their members would on average.

    Examples
    --------
    >>> spread(np.array([1.0, 1.0, 9.0]), 2.0, -10, 20)
    array([0., 2., 9.])
    >>> spread(np.array([1.0, 1.0, 1.0]), 2.0, 0, 4)
    array([0., 2., 4.])
    """
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    blocks: list[list[float]] = []  # mean and number of members
    for place in wanted[order] - steps:
        blocks.append([float(place), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value, count = blocks.pop()
            mean, before = blocks[-1]
            blocks[-1] = [(mean * before + value * count) / (before + count), before + count]
    level = np.repeat([mean for mean, _ in blocks], [int(count) for _, count in blocks])
    found = np.empty(len(wanted))
    found[order] = np.clip(level, low, max(high - steps[-1], low)) + steps
    return found


def width(text: str) -> float:
    """Return how wide a label is, in points; somewhat more than in any usual font."""
    return 0.62 * SIZE * len(text) + _ASIDE


def put(axes: Axes, ends: Sequence[End]) -> None:
    """Write labels at the ends of lines; the limits and the place of the axes must be set.

    Labels above each other are moved apart; then each that a line runs through takes the nearest
    place that is free, if there is one.
    """
    if not ends:
        return
    places = _points(axes, [(end.x, end.y) for end in ends])
    (_, low), (_, high) = _points(axes, [(0, 0), (1, 1)], axes.transAxes)
    sizes = [width(end.text) for end in ends]
    heights = np.empty(len(ends))
    for members in _beside(places[:, 0], sizes):
        heights[members] = spread(places[members, 1], _GAP, low + SIZE / 2, high)
    lines = in_the_way(axes)
    boxes = [
        Box(x + _ASIDE, y - SIZE / 2, x + size, y + SIZE / 2)
        for x, y, size in zip(places[:, 0], heights, sizes, strict=True)
    ]
    for at, box in enumerate(boxes):
        others = [other for n, other in enumerate(boxes) if n != at]
        boxes[at] = min(
            (
                moved
                for moved in _around(box)
                if low - SIZE < moved.low and moved.high < high + _GAP
            ),
            key=lambda moved: moved.hits(lines) + 1000 * sum(map(moved.touches, others)),
            default=box,
        )
    for end, box, (_, y) in zip(ends, boxes, places, strict=True):
        _write(axes, end, (box.low + box.high) / 2 - y)


class Box(NamedTuple):
    """A rectangle, in points."""

    left: float
    low: float
    right: float
    high: float

    def hits(self, points: Array) -> int:
        """Return how many points lie within."""
        x, y = points.T
        return int(((self.left < x) & (x < self.right) & (self.low < y) & (y < self.high)).sum())

    def touches(self, other: Box) -> bool:
        """Tell whether two rectangles have something in common."""
        across = self.left < other.right and other.left < self.right
        return across and self.low < other.high and other.low < self.high


def in_the_way(axes: Axes) -> Array:
    """Return points on all lines of some axes, a few points from one to the next."""
    found = [np.empty((0, 2))]
    for line in axes.lines:
        places = _points(axes, line.get_xydata(), line.get_transform())
        places = places[np.isfinite(places).all(axis=1)]
        if len(places) > 1:
            along = np.concatenate([[0], np.hypot(*np.diff(places, axis=0).T).cumsum()])
            steps = np.arange(0, along[-1], _STEP)
            found.append(np.stack([np.interp(steps, along, axis) for axis in places.T], axis=1))
    return np.concatenate(found)


def _points(axes: Axes, places: ArrayLike, transform: Transform | None = None) -> Array:
    pixels = (transform or axes.transData).transform(places)
    return np.asarray(72 / axes.figure.dpi * pixels)


def _around(box: Box) -> Iterator[Box]:
    """Yield places for a label, the best first."""
    yield box
    for step in range(1, 9):
        for up in (step * _GAP / 2, -step * _GAP / 2):
            yield box._replace(low=box.low + up, high=box.high + up)


def _write(axes: Axes, end: End, up: float) -> None:
    far = abs(up) > _FAR
    arrow = {"arrowstyle": "-", "color": end.colour, "linewidth": 0.5, "shrinkB": 1}
    text = axes.annotate(
        end.text,
        (end.x, end.y),
        (_ASIDE + (6 if far else 0), up),
        textcoords="offset points",
        va="center",
        color=end.colour,
        size=SIZE,
        annotation_clip=False,
        arrowprops=arrow if far else None,
    )
    text.set_gid(end.key)


def _beside(starts: Array, widths: Sequence[float]) -> list[list[int]]:
    """Divide labels in such as stand above each other in part.

    Examples
    --------
    >>> _beside(np.array([0.0, 50.0, 5.0]), [10, 10, 10])
    [[0, 2], [1]]
    """
    found: list[list[int]] = []
    end = -np.inf
    for at in map(int, np.argsort(starts, kind="stable")):
        if starts[at] < end:
            found[-1].append(at)
        else:
            found.append([at])
        end = max(end, starts[at] + widths[at])
    return found
