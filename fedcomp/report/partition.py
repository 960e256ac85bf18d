"""Who holds what: a partition as a table for the terminal and as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from fedcomp.data.base import Samples
    from fedcomp.tensors import Array

_MOST_ROWS = 20
_MOST_COLUMNS = 12
_MOST_COLOURS = 20


def class_counts(samples: Samples, parts: list[Array]) -> Array:
    """Return the number of samples of each class, a row for each client."""
    labels, codes = np.unique(samples.strata, return_inverse=True)
    rows = [np.bincount(codes[part], minlength=len(labels)) for part in parts]
    return np.array(rows)


def table(samples: Samples, parts: list[Array]) -> RenderableType:
    """Return clients, their samples and classes; of many clients a few typical ones."""
    counts = class_counts(samples, parts)
    labels = np.unique(samples.strata)
    spelled = len(labels) <= _MOST_COLUMNS
    names = [str(label) for label in labels] if spelled else ["largest class"]
    found = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", title_justify="left")
    for name in ("client", "samples", "classes", *names):
        found.add_column(name, justify="right")
    clients = _shown(counts.sum(axis=1))
    for client in clients:
        row = counts[client]
        cells = row if spelled else [row.max()]
        values = (row.sum(), np.count_nonzero(row), *cells)
        found.add_row(str(client), *(str(value) for value in values))
    if len(clients) == len(parts):
        return found
    note = f"{len(clients)} of {len(parts)} clients, ordered by their samples"
    return Group(found, note)


def draw(samples: Samples, parts: list[Array], path: Path) -> None:
    """Write a picture: a bar for each client, its classes stacked."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    counts = class_counts(samples, parts)
    clients, classes = counts.shape
    figure = Figure(figsize=(float(np.clip(0.25 * clients, 5, 16)), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    few = classes <= _MOST_COLOURS
    places = np.arange(classes) if few else np.linspace(0, 1, classes)
    colours = colormaps["tab10" if classes <= 10 else "tab20" if few else "turbo"](places)
    base = np.zeros(clients)
    for at, label in enumerate(np.unique(samples.strata)):
        axes.bar(range(clients), counts[:, at], 0.9, base, color=colours[at], label=str(label))
        base += counts[:, at]
    axes.set(xlabel="client", ylabel="samples", xlim=(-0.6, clients - 0.4))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    if few:
        axes.legend(title="class", loc="upper left", bbox_to_anchor=(1, 1), ncols=-(-classes // 12))
    figure.savefig(path, dpi=120)


def _shown(sizes: Array) -> list[int]:
    """Return which clients a table shows: all of few, else some in the order of their sizes."""
    if len(sizes) <= _MOST_ROWS:
        return list(range(len(sizes)))
    order = np.argsort(sizes, kind="stable")
    ranks = np.linspace(0, len(sizes) - 1, _MOST_ROWS // 2).round().astype(int)
    return [int(order[rank]) for rank in ranks]
