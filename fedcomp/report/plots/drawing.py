"""What all pictures of a report share: their style, where axes stand, and the files."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fedcomp.report.plots.labels import SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK, FAINT, GRID, PAPER = "#1b1c1d", "#6a6b6c", "#dddedf", "#fefefd"
"""Text and axes, what is less important, lines in the background, and the background: colours that
nothing else has, so that a page can put its own in their place."""


_DPI = 150
_STYLE = {
    "svg.hashsalt": "fedcomp",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.linewidth": 0.7,
    "axes.titlesize": SIZE,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "lines.dash_capstyle": "butt",
    "text.color": INK,
    **{f"{axis}tick.color": FAINT for axis in "xy"},
    **{f"{axis}tick.labelcolor": INK for axis in "xy"},
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of all pictures."""
    from matplotlib import rc_context

    with rc_context(_STYLE):  # type: ignore[arg-type]
        yield


def panels(
    count: int, height: float, right: float, left: float = 0.75, wide: float = 6.4
) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes below each other, of so many inches each, and room beside them.

    Parameters
    ----------
    right
        Inches for what stands there.
    """
    from matplotlib.figure import Figure

    above, below = 0.32, 0.52
    whole = count * (height + above + below)
    width_ = wide + max(right - 1.4, 0) + max(left - 0.75, 0)
    figure = Figure(figsize=(width_, whole))
    axes = [
        figure.add_axes(
            (
                left / width_,
                (whole - (at + 1) * (height + above + below) + below) / whole,
                (width_ - left - right) / width_,
                height / whole,
            )
        )
        for at in range(count)
    ]
    return figure, axes


def beside(height: float, rights: Sequence[float], wide: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes beside each other, of so many inches each.

    Parameters
    ----------
    rights
        Inches for what stands to the right of each.
    """
    from matplotlib.figure import Figure

    left, above, below = 0.65, 0.3, 0.52
    starts = [at * (left + wide) + left + sum(rights[:at]) for at in range(len(rights))]
    whole = starts[-1] + wide + rights[-1], above + height + below
    figure = Figure(figsize=whole)
    box = below / whole[1], wide / whole[0], height / whole[1]
    return figure, [figure.add_axes((start / whole[0], *box)) for start in starts]


def as_svg(figure: Figure, *, outlined: bool = False) -> str:
    """Return a picture as the text of an SVG file.

    Parameters
    ----------
    outlined
        Letters are shapes, for pictures that are shown where nobody knows the fonts.
    """
    from matplotlib import rc_context

    out = io.StringIO()
    with styled(), rc_context({"svg.fonttype": "path" if outlined else "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def as_png(figure: Figure, dpi: int = _DPI) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    out = io.BytesIO()
    with styled():
        figure.savefig(out, format="png", dpi=dpi, pil_kwargs={"compress_level": 3})
    return out.getvalue()
