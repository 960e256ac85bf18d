"""What a saved model's zeros are worth in use: time on the CPU and bytes; imports torch.

Layers whose weights take fewer bytes in sparse rows get a twin that multiplies by those alone.
Whether that is faster is measured, layer by layer and for the net: small products are often slower.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from safetensors.torch import load_file

from fedcomp.building import build_named
from fedcomp.config import stored_group
from fedcomp.errors import DataError
from fedcomp.models import MODELS
from fedcomp.models.base import manifest_of
from fedcomp.report.comparison.sparse_layers import csr_bytes, sparse_layers, with_twins
from fedcomp.report.units import megabytes, times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from rich.console import RenderableType
    from torch import Tensor, nn

    from fedcomp.report.comparison.sparse_layers import Layer

BATCHES = (1, 32)
"""Batch sizes that are measured: one sample at a time, and many."""

_SECONDS = 1.0  # for the layers of a net, and again for the nets
_LEAST, _MOST = 3, 1000  # repeats
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Timing:
    """Seconds for a batch: the dense net, all twins, and of each layer the faster form."""

    batch: int
    dense: float
    sparse: float
    best: float
    kept: int


@dataclass(frozen=True)
class Inference:
    """What was found of a net.

    Attributes
    ----------
    layers
        How many have a sparse twin.
    dense_bytes, sparse_bytes
        All weights as they are, and with those of these layers in CSR, indices of 32 bits.
    """

    layers: int
    dense_bytes: int
    sparse_bytes: int
    timings: tuple[Timing, ...]


def measure(module: nn.Module, shape: Sequence[int], batches: Sequence[int] = BATCHES) -> Inference:
    """Time a net on random inputs, dense and sparse; `DataError` where there is nothing sparse."""
    module.eval()
    layers = sparse_layers(module)
    if not layers:
        msg = "no Linear or Conv2d layer takes fewer bytes as CSR than dense"
        raise DataError(msg)
    state = module.state_dict()
    dense = sum(state[spec.name].nbytes for spec in manifest_of(module).weights)
    saved = sum(layer.weight.nbytes - csr_bytes(layer.weight) for layer in layers)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        inputs = [torch.randn(batch, *shape, generator=generator) for batch in batches]
        timings = tuple(_timing(module, layers, batch) for batch in inputs)
    return Inference(len(layers), dense, dense - saved, timings)


def load_model(folder: Path, summary: Mapping[str, Any]) -> nn.Module:
    """Build the net of a run without its data set, with the values that the run has saved."""
    path = folder / "model.safetensors"
    if not path.is_file():
        msg = f"{path} is missing"
        raise DataError(msg)
    settings = build_named(MODELS, stored_group(folder, "model"), "model")
    plain = replace(settings, pretrained=False, weights=None)
    module = plain.seeded(tuple(summary["input_shape"]), summary["outputs"], 0)
    try:
        module.load_state_dict(load_file(path))
    except Exception as error:  # torn bytes make the reader raise almost anything
        msg = f"{path} does not hold the tensors of model={settings.name} ({type(error).__name__})"
        raise DataError(msg) from error
    return module


def table(folder: Path, summary: Mapping[str, Any]) -> RenderableType:
    """Measure a run's model and return what its zeros save."""
    found = measure(load_model(folder, summary), summary["input_shape"])
    less = found.dense_bytes / found.sparse_bytes
    text = (
        f"\ninference of {folder} on the CPU, threads: {torch.get_num_threads()}\n"
        f"zeros: {100 * summary['model_sparsity']:.1f} % of the weights; weights dense"
        f" {megabytes(found.dense_bytes)}, in sparse rows (CSR) {megabytes(found.sparse_bytes)}:"
        f" {less:.2f} × smaller"
    )
    rows = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("batch", "dense", "all sparse", "best of both", "sparse layers in it"):
        rows.add_column(name, justify="right")
    for timing in found.timings:
        rows.add_row(
            str(timing.batch),
            f"{1e3 * timing.dense:.3f} ms",
            *(
                f"{1e3 * seconds:.3f} ms, {times(timing.dense / seconds)}"
                for seconds in (timing.sparse, timing.best)
            ),
            f"{timing.kept} of {found.layers}",
        )
    return Group(Text(text), rows, Text("×: times as fast as dense; below 1 is slower"))


def _timing(module: nn.Module, twins: Mapping[Layer, nn.Module], inputs: Tensor) -> Timing:
    """Time layer by layer, then the net as it is, with all twins, and with the faster ones."""
    seen: dict[Layer, Tensor] = {}

    def record(layer: Layer, given: tuple[Tensor, ...]) -> None:
        seen[layer] = given[0]

    hooks = [layer.register_forward_pre_hook(record) for layer in twins]
    module(inputs)
    for hook in hooks:
        hook.remove()
    faster: dict[Layer, nn.Module] = {}
    for layer, given in seen.items():
        pair = (partial(layer, given), partial(twins[layer], given))
        dense, sparse = in_turns(pair, _SECONDS / len(seen))
        if sparse < dense:
            faster[layer] = twins[layer]
    nets = [module, with_twins(module, twins)]
    if 0 < len(faster) < len(twins):  # otherwise the best is one of these
        nets.append(with_twins(module, faster))
    expected = module(inputs)
    for net in nets[1:]:
        _check(expected, net(inputs))
    dense, sparse, *mixed = in_turns([partial(net, inputs) for net in nets], _SECONDS)
    best = mixed[0] if mixed else sparse if faster else dense
    return Timing(len(inputs), dense, sparse, best, len(faster))


def in_turns(works: Iterable[Callable[[], object]], seconds: float) -> list[float]:
    """Return the median time of each work, done in turns after a warm-up, for about `seconds`.

    Every other turn goes backwards, so that none always follows the one that fills the caches most.
    """
    timed = [(work, list[float]()) for work in works]
    for work, _ in timed:
        work()
    began = time.perf_counter()
    for count in range(_MOST):
        if count >= _LEAST and time.perf_counter() - began > seconds:
            break
        for work, taken in timed[:: -1 if count % 2 else 1]:
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [median(taken) for _, taken in timed]


def _check(expected: Tensor, found: Tensor) -> None:
    """Raise `DataError` unless outputs agree; values that are not finite never do."""
    most, apart = float(expected.abs().max()), float((found - expected).abs().max())
    if not apart <= _TOLERANCE * most:
        msg = (
            f"the sparse net's outputs differ from the dense net's by {apart:.3g} where the"
            f" largest is {most:.3g}; allowed are {_TOLERANCE:g} of it"
        )
        raise DataError(msg)
