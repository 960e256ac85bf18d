"""Pictures of bars: bytes to a target, and what the bytes of a round are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.report.columns import PARTS, SENT
from fedcomp.report.plots.drawing import FAINT, INK, PAPER, panels, styled
from fedcomp.report.plots.labels import SIZE, width
from fedcomp.report.plots.palette import PART_LOOKS, look_of
from fedcomp.report.units import megabytes, power

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fedcomp.report.comparison.groups import Group

MOST = 40
"""More bars are not drawn: of more groups the first are shown."""

_BAR = 0.24
_APART = 0.4


def to_target(groups: Sequence[Group], targets: Sequence[float]) -> Figure | None:
    """Draw how many bytes were sent until runs reached targets, a panel for each target.

    None where no run reached any.
    """
    shown = groups[:MOST]
    found = [[_bytes_to(group, target) for group in shown] for target in targets]
    if not any(sent for row in found for sent, _ in row):
        return None
    with styled():
        left = _left(group.label for group in shown)
        figure, every = panels(len(targets), _BAR * len(shown) + 0.1, 1.6, left)
        for axes, target, row in zip(every, targets, found, strict=True):
            axes.set_title(f"bytes until {target:g}{_cut(shown, groups)}")
            _named(axes, [group.label for group in shown], range(len(shown)))
            longest = max(sent for sent, _ in row) or 1.0
            colours = [look_of(group.method).colour for group in shown]
            bars = axes.barh(range(len(row)), [sent for sent, _ in row], 0.7, color=colours)
            for at, (bar, group, (sent, reached)) in enumerate(zip(bars, shown, row, strict=True)):
                bar.set_gid(f"line-{at}-bar")
                words = megabytes(sent) if reached else "not reached"
                if 0 < reached < len(group.runs):
                    words += f" ({reached} of {len(group.runs)})"
                _beside(axes, sent, at, words, faint=not reached)
            axes.set_xlim(0, longest)
            _bytes_axis(axes)
    return figure


def split(groups: Sequence[Group]) -> Figure:
    """Draw what a round's bytes are for, a bar each way, as shares with the bytes beside."""
    shown = groups[: MOST // 2]
    names = [f"{group.label} {way}" for group in shown for way in ("up", "down")]
    rows = [way for group in shown for way in _parts(group)]
    heights = [at + _APART * (at // 2) for at in range(len(rows))]
    there = [part for part in PART_LOOKS if any(row[part] for row in rows)]
    with styled():
        figure, (axes,) = panels(1, _BAR * heights[-1] + 0.3, 1.6, _left(names))
        _named(axes, names, heights)
        whole = np.array([sum(row.values()) for row in rows])
        start = np.zeros(len(rows))
        for part in there:
            share = np.array([row[part] for row in rows]) / np.maximum(whole, 1)
            colour, hatch = PART_LOOKS[part]
            pen = {"edgecolor": PAPER, "linewidth": 0.5, "hatch": hatch}
            for bar in axes.barh(heights, share, 0.72, left=start, color=colour):
                bar.set(**pen, visible=bar.get_width() > 0)
            start += share
        for at, count in zip(heights, whole, strict=True):
            _beside(axes, 1.0, at, f"{megabytes(count)} a round", faint=False)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.set_xlabel(f"share of the bytes{_cut(shown, groups)}")
        _legend(axes, there)
    return figure


def _parts(group: Group) -> tuple[dict[str, float], dict[str, float]]:
    """Return the bytes of a round by what they are for, up and down, on average."""
    names = (*PARTS, *SENT)
    runs = [run for run in group.runs if run.rounds]
    means = {name: sum(run.columns[name][1:].mean() for run in runs) for name in names}
    means = {name: float(value) / max(len(runs), 1) for name, value in means.items()}
    up = {
        "side": means["uplink_side_bytes"],
        "header": means["uplink_header_bytes"],
        "keyframes": 0.0,
        "evaluation": 0.0,
    }
    down = {
        "side": means["side_bytes"] - means["uplink_side_bytes"],
        "header": means["downlink_header_bytes"],
        "keyframes": means["training_keyframe_bytes"],
        "evaluation": means["evaluation_bytes"],
    }
    up["updates"] = means["uplink_bytes"] - up["side"] - up["header"]
    training = down["side"] + down["header"] + down["keyframes"]
    down["updates"] = means["downlink_bytes"] - training
    return up, down


def _bytes_to(group: Group, target: float) -> tuple[float, int]:
    """Return the mean of the runs that reached a target, and how many did."""
    found = [float(run.sent[at]) for run in group.runs if (at := run.reached(target)) is not None]
    return (sum(found) / len(found) if found else 0.0), len(found)


def _left(names: Iterable[str]) -> float:
    return 0.15 + max(map(width, names)) / 72


def _named(axes: Axes, names: Sequence[str], heights: Sequence[float]) -> None:
    axes.set_yticks(heights, names)
    axes.set_ylim(heights[-1] + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _bytes_axis(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))


def _beside(axes: Axes, x: float, y: float, text: str, *, faint: bool) -> None:
    colour, size = FAINT if faint else INK, SIZE - 1
    axes.annotate(
        text, (x, y), (4, 0), textcoords="offset points", va="center", size=size, color=colour
    )


def _cut(shown: Sequence[Group], groups: Sequence[Group]) -> str:
    return f" (the first {len(shown)} of {len(groups)})" if len(groups) > len(shown) else ""


def _legend(axes: Axes, parts: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=PART_LOOKS[part][0], edgecolor=PAPER, hatch=PART_LOOKS[part][1])
        for part in parts
    ]
    axes.legend(
        handles,
        parts,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(parts),
        frameon=False,
        borderaxespad=0,
        handlelength=1.4,
        columnspacing=1.2,
    )
