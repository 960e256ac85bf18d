"""A picture of a model's scale factors: how far they have moved from 1, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.report.observer import Observer
from fedcomp.tensors import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.tensors import Array, Manifest, Tensors

_BINS = 60


class ScalesPicture(Observer):
    """Draws `scales.png` at the end of a run whose model has scale factors."""

    def __init__(self, manifest: Manifest, path: Path) -> None:
        self._names = [spec.name for spec in manifest.specs if spec.kind is Kind.SCALE]
        self._path = path

    def on_end(self, model: Tensors) -> None:
        """Draw the final model's scale factors."""
        if self._names:
            draw([model[name].reshape(-1) for name in self._names], self._path)


def draw(layers: list[Array], path: Path) -> None:
    """Write a stacked histogram, the first layer at the bottom."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    every = np.concatenate(layers)
    reach = max(float(np.abs(every - 1).max()), 1e-6) * 1.05
    edges = np.linspace(1 - reach, 1 + reach, _BINS + 1)
    counts = np.array([np.histogram(values, edges)[0] for values in layers])
    tops = counts.cumsum(axis=0)
    places = np.linspace(0, 1, len(layers))
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for top, place in zip(tops[::-1], places[::-1], strict=True):
        axes.stairs(top, edges, fill=True, color=colormaps["viridis"](place))
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="scale factor", ylabel="filters", xlim=(edges[0], edges[-1]))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    spread = f"mean {every.mean():.4f}, deviation {every.std():.4f}"
    axes.set_title(f"{every.size} scale factors, {spread}", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    if len(layers) > 1:
        colours = ScalarMappable(Normalize(1, len(layers)), "viridis")
        legend = figure.colorbar(colours, ax=axes, label="layer", pad=0.01)
        legend.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path, dpi=120)
