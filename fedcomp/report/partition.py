"""Who holds what: a partition as a table for the terminal and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from fedcomp.data.base import Samples
    from fedcomp.tensors import Array

_MOST_ROWS = 20
_MOST_COLUMNS = 12
_MOST_COLOURS = 20
_MOST_BARS = 100
_MOST_LETTERS = 24
_PIXELS = 400
_LINE = 80


def class_counts(samples: Samples, parts: list[Array]) -> Array:
    """Return the number of samples of each class, a row for each client."""
    labels, codes = np.unique(samples.strata, return_inverse=True)
    rows = [np.bincount(codes[part], minlength=len(labels)) for part in parts]
    return np.array(rows)


def table(samples: Samples, parts: list[Array], names: Sequence[str] = ()) -> RenderableType:
    """Return clients, their samples and classes; of many clients a few typical ones.

    Parameters
    ----------
    names
        What the classes 0, 1, … are called; shortened where a line has no room for them.
    """
    counts = class_counts(samples, parts)
    clients = _shown(counts.sum(axis=1))
    spelled = counts.shape[1] <= _MOST_COLUMNS
    fixed = ["client", "samples", "classes"]
    room = _LINE - sum(len(title) + 1 for title in fixed)
    titles = _cut(_titles(samples, names), counts, room) if spelled else ["largest class"]
    found = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", title_justify="left")
    for title in (*fixed, *titles):
        found.add_column(Text(title), justify="right")
    for client in clients:
        row = counts[client]
        cells = row if spelled else [row.max()]
        values = (row.sum(), np.count_nonzero(row), *cells)
        found.add_row(str(client), *(str(value) for value in values))
    if len(clients) == len(parts):
        return found
    note = f"{len(clients)} of {len(parts)} clients, ordered by their samples"
    return Group(found, note)


def draw(samples: Samples, parts: list[Array], path: Path, names: Sequence[str] = ()) -> None:
    """Write a picture: a bar for each client, its classes stacked, without gaps if many."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    counts = class_counts(samples, parts)
    clients, classes = counts.shape
    few = classes <= _MOST_COLOURS
    titles = [title[:_MOST_LETTERS].replace("$", r"\$") for title in _titles(samples, names)]
    columns = -(-classes // 12) if few else 0
    width = float(np.clip(0.25 * clients, 5, 16)) + 0.09 * columns * max(map(len, titles))
    figure = Figure(figsize=(width, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = np.arange(classes) if few else np.linspace(0, 1, classes)
    colours = colormaps["tab10" if classes <= 10 else "tab20" if few else "turbo"](places)
    tops = counts.cumsum(axis=1)
    high = 1.05 * tops.max()
    if clients <= _MOST_BARS:
        edges = (np.arange(clients)[:, None] + [-0.45, 0.45]).reshape(-1)
        bars = np.zeros((2 * clients - 1, classes))  # every other one is a gap
        bars[::2] = tops
        for at in reversed(range(classes)):
            axes.stairs(bars[:, at], edges, fill=True, color=colours[at])
    else:  # shapes would take seconds
        heights = (np.arange(_PIXELS) + 0.5) * high / _PIXELS
        found = [np.searchsorted(top, heights, side="right") for top in tops]
        pixels = np.vstack((colours, [1, 1, 1, 0]))[np.transpose(found)]
        extent = (-0.5, clients - 0.5, 0, high)
        axes.imshow(pixels, origin="lower", aspect="auto", extent=extent, interpolation="nearest")
    axes.set(xlabel="client", ylabel="samples", xlim=(-0.6, clients - 0.4), ylim=(0, high))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    if few:
        handles = [Patch(color=colour) for colour in colours]
        legend = axes.legend(handles, titles, title="class", ncols=columns, loc="upper left")
        legend.set_bbox_to_anchor((1, 1), axes.transAxes)
    figure.savefig(path, dpi=120)


def _titles(samples: Samples, names: Sequence[str]) -> list[str]:
    """Return what each class that is there is called, its number where it has no name."""
    labels = np.unique(samples.strata)
    return [names[label] if label < len(names) else str(label) for label in labels]


def _cut(titles: list[str], counts: Array, room: int) -> list[str]:
    """Return titles of so many letters that the columns below them fit in the room."""
    digits = [len(str(most)) for most in counts.max(axis=0)]
    least = min(digits)
    for letters in range(max(least, *map(len, titles)), least - 1, -1):
        cut = [title[:letters] for title in titles]
        if sum(1 + max(len(t), n) for t, n in zip(cut, digits, strict=True)) <= room:
            break
    return cut


def _shown(sizes: Array) -> list[int]:
    """Return which clients a table shows: all of few, else some in the order of their sizes."""
    if len(sizes) <= _MOST_ROWS:
        return list(range(len(sizes)))
    order = np.argsort(sizes, kind="stable")
    ranks = np.linspace(0, len(sizes) - 1, _MOST_ROWS // 2).round().astype(int)
    return [int(order[rank]) for rank in ranks]
