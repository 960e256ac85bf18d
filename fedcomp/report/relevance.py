"""Pictures of relevance: which weights of a quantised model stay, and where in images it lies."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedcomp.report.observer import Observer
from fedcomp.training.settings import RelevanceSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from torch import nn

    from fedcomp.data.base import Samples
    from fedcomp.report.observer import RoundResult
    from fedcomp.setup import Setup
    from fedcomp.tensors import Array, Tensors
    from fedcomp.training.settings import TrainSettings

log = logging.getLogger(__name__)

LAYERS = 6
IMAGES = 6
_SAMPLES = 64
_BINS = 41
_GREY = "#9a9a9a"


class Weights(NamedTuple):
    """A layer: what its weights are before and after quantisation, and what they are worth."""

    name: str
    background: Array
    quantised: Array
    relevance: Array


class RelevancePicture(Observer):
    """Draws `relevance.png`, and of images `heatmaps.png`, at the end of a run.

    Parameters
    ----------
    exact
        Returns the model behind the quantised one.
    """

    def __init__(self, setup: Setup, folder: Path, exact: Callable[[], Tensors]) -> None:
        self._setup = setup
        self._folder = folder
        self._exact = exact
        self._rounds = 0

    def on_round(self, result: RoundResult) -> None:
        """Note how far the run is."""
        self._rounds = result.round

    def on_end(self, model: Tensors) -> None:
        """Draw the final model of a run that has come to its end; no run fails by that."""
        settings = self._setup.settings
        if not settings.recipe.keeps_background or self._rounds < settings.rounds:
            return
        dataset, chosen = self._setup.dataset, getattr(settings.recipe, "relevance", None)
        weights = self._setup.manifest.weights
        behind = {spec.name: self._exact()[spec.name] for spec in weights}
        net = Net(self._setup.module, dataset.task, settings.train, chosen or RelevanceSettings())
        draw(net, dataset.test, model, behind, self._folder)


class Net(NamedTuple):
    """A module, what it is for, where it runs, and how its relevance is measured."""

    module: nn.Module
    task: str
    settings: TrainSettings
    relevance: RelevanceSettings


def draw(
    net: Net, test: Samples, model: Tensors, behind: Mapping[str, Array], folder: Path
) -> None:
    """Measure relevance on some samples and draw both pictures in a folder; a failure is logged.

    Parameters
    ----------
    behind
        The weights behind those of the model that are quantised.
    """
    try:
        _draw(net, test, model, behind, folder)
    except (RuntimeError, ValueError, MemoryError, OSError) as error:
        log.warning("no picture of relevance: %s: %s", type(error).__name__, error)


def _draw(
    net: Net, test: Samples, model: Tensors, behind: Mapping[str, Array], folder: Path
) -> None:
    from fedcomp.models.base import load_tensors

    some = test.take(np.arange(min(_SAMPLES, len(test))))
    load_tensors(net.module, model)
    weights, heat = measure(net, some, behind)
    largest = sorted(behind.keys() & weights.keys(), key=lambda name: -behind[name].size)[:LAYERS]
    layers = [
        Weights(name, behind[name], model[name], weights[name])
        for name in behind  # from the input to the output
        if name in largest
    ]
    if layers:
        draw_layers(layers, folder / "relevance.png")
    if heat.ndim == 4 and heat.shape[1] in (1, 3):
        draw_images(some.inputs[:IMAGES], heat.sum(1), folder / "heatmaps.png")


def measure(net: Net, samples: Samples, behind: Mapping[str, Array]) -> tuple[Tensors, Array]:
    """Return the mean relevance of weights, and that of the inputs of the first samples."""
    import torch

    from fedcomp.training.batches import Batches
    from fedcomp.training.loop import place
    from fedcomp.training.relevance import Relevance

    device = place(net.module, net.settings)
    whole = {name: torch.from_numpy(np.array(v)).to(device) for name, v in behind.items()}
    weights: Tensors = {}
    heat: list[Array] = []
    relevance: Relevance | None = None
    for inputs, targets in Batches(samples, device, channels_last=False).evaluation():
        relevance = relevance or Relevance(net.module, inputs[:2], net.relevance)
        found = relevance.of(net.module, inputs, targets, net.task, whole)
        for name, value in found.weights.items():
            share = value.cpu().numpy() * (len(targets) / len(samples))
            weights[name] = weights[name] + share if name in weights else share
        heat.append(found.inputs[:IMAGES].cpu().numpy())
    return weights, np.concatenate(heat)[:IMAGES]


def draw_layers(layers: list[Weights], path: Path) -> None:
    """Write histograms of weights: those that became 0, and the others by their relevance."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    columns = min(len(layers), 3)
    rows = -(-len(layers) // columns)
    figure = Figure(figsize=(1 + 3.1 * columns, 0.9 + 2.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for at, layer in enumerate(layers):
        _histogram(figure.add_subplot(rows, columns, at + 1), layer)
    figure.supxlabel("weight before quantisation", fontsize="medium")
    figure.supylabel("weights", fontsize="medium")
    colours = ScalarMappable(Normalize(0, 1), colormaps["viridis"])
    figure.colorbar(colours, ax=figure.axes, label="relevance of those kept (rank in the layer)")
    zero = Patch(color=_GREY, label="became 0")
    figure.legend(handles=[zero], loc="outside upper left", frameon=False, fontsize="medium")
    figure.savefig(path, dpi=120)


def _histogram(axes: Axes, layer: Weights) -> None:
    from matplotlib import colormaps

    values, kept = layer.background.reshape(-1), layer.quantised.reshape(-1) != 0
    reach = float(np.abs(values).max()) or 1.0
    edges = np.linspace(-reach, reach, _BINS + 1)
    place = np.clip(np.digitize(values, edges) - 1, 0, _BINS - 1)
    zeros = np.bincount(place[~kept], minlength=_BINS)
    others = np.bincount(place[kept], minlength=_BINS)
    ranks = np.abs(layer.relevance.reshape(-1)).argsort().argsort() / max(values.size - 1, 1)
    worth = np.bincount(place[kept], ranks[kept], _BINS) / np.maximum(others, 1)
    width = edges[1] - edges[0]
    axes.bar(edges[:-1], zeros, width, align="edge", color=_GREY)
    axes.bar(edges[:-1], others, width, zeros, align="edge", color=colormaps["viridis"](worth))
    axes.set_title(f"{layer.name}\n{100 * (~kept).mean():.1f} % zeros", fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize="x-small")


def draw_images(inputs: Array, heat: Array, path: Path) -> None:
    """Write images above the relevance of their pixels: red speaks for the class, blue against."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.35 * len(inputs) + 0.3, 3.1), layout="constrained")
    FigureCanvasAgg(figure)
    for at, (image, found) in enumerate(zip(inputs, heat, strict=True)):
        shown = np.moveaxis(image, 0, -1).astype(np.float64)
        shown = (shown - shown.min()) / (np.ptp(shown) or 1)
        most = float(np.abs(found).max()) or 1.0
        upper = figure.add_subplot(2, len(inputs), at + 1)
        upper.imshow(shown if shown.shape[-1] == 3 else shown[..., 0], cmap="gray")
        lower = figure.add_subplot(2, len(inputs), len(inputs) + at + 1)
        lower.imshow(found, cmap="RdBu_r", vmin=-most, vmax=most)
        for axes in (upper, lower):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    figure.axes[0].set_ylabel("image", fontsize="small")
    figure.axes[1].set_ylabel("relevance", fontsize="small")
    figure.savefig(path, dpi=120)
