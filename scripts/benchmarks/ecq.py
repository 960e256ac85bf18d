"""ECQ and ECQ^x: which level each weight gets, beside bounds and beside the cost of every level."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.codecs.assignment import assign, assign_relevant, costs
from fedcomp.codecs.base import Context
from fedcomp.codecs.ecq import Ecq
from fedcomp.codecs.grid import grid_for
from fedcomp.models.resnet_stem import ResNet18Cifar
from fedcomp.runtime import limit_threads
from scripts.benchmarks.clusters import weights_of
from scripts.benchmarks.link_models import Subject
from scripts.benchmarks.rows import Row, bounded
from scripts.benchmarks.timing import in_turns, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from fedcomp.codecs.assignment import Costs
    from fedcomp.tensors import Array

_BITS, _GAMMA, _INTENSITY = 4, 0.05, 0.1
_TENSOR = "layer4.1.conv1.weight"
_CORES, _SECONDS = 2, 0.5
_REPEATS = 3
_ROUNDING = 1e-6


def rows() -> Iterator[Row]:
    """Measure one row after the other."""
    subject = Subject.of("ResNet-18", ResNet18Cifar().seeded((3, 32, 32), 10, seed=1))
    weights = weights_of(subject)
    yield _duel(weights[_TENSOR])
    context = Context(subject.manifest, 1, 1, "uplink", "0")
    codec = Ecq(bits=_BITS, gamma=_GAMMA)
    total = sum(value.size for value in weights.values())
    name = f"{subject.name} of {total / 1e6:.1f} M weights, {_BITS} bits"
    limit_threads(_CORES)
    (spent,) = in_turns(timed(partial(codec.quantise, weights, context)), repeats=_REPEATS)
    yield bounded(f"{name}: grids and ECQ", "s", spent, _SECONDS, f"{_CORES} cores")
    limit_threads(1)
    rng = np.random.default_rng(2)
    grids = {n: grid_for(v, _BITS) for n, v in weights.items()}
    relevance = {n: rng.gamma(np.full(v.shape, 0.5)).astype(np.float32) for n, v in weights.items()}

    def plain() -> None:
        for layer, values in weights.items():
            assign(values, costs(values, grids[layer], _GAMMA))

    def relevant() -> None:
        for layer, values in weights.items():
            priced = costs(values, grids[layer], _GAMMA)
            assign_relevant(values, priced, relevance[layer], _INTENSITY)

    for what, work in (("ECQ", plain), ("ECQ^x", relevant)):
        (spent,) = in_turns(timed(work), repeats=_REPEATS)
        yield bounded(f"{name}: levels, {what}", "s", spent, _SECONDS, "one core")


def _duel(values: Array) -> Row:
    """Compare with the cost of every level of every weight, in numpy, both on one core."""
    limit_threads(1)
    priced = costs(values, grid_for(values, _BITS), _GAMMA)
    own, other = partial(assign, values, priced), partial(_brute_force, values, priced)
    chosen, least = (_cost(values, priced, levels()) for levels in (own, other))
    if not chosen <= least * (1 + _ROUNDING):
        msg = f"levels of ECQ cost {chosen}, and the cheapest ones {least}"
        raise RuntimeError(msg)
    ours, theirs = in_turns(timed(own), timed(other), repeats=_REPEATS)
    name = f"{values.size} weights, {_BITS} bits: levels"
    return Row(name, "s", ours, theirs, "peer", 1.0, "numpy's argmin of all costs; one core")


def _brute_force(values: Array, priced: Costs) -> NDArray[np.int64]:
    prices = priced.prices.astype(np.float32)
    centres = priced.grid.values.astype(np.float32)
    table = [(values - c) ** 2 + price for c, price in zip(centres, prices, strict=True)]
    levels: NDArray[np.int64] = np.argmin(table, axis=0) + priced.grid.low
    return levels


def _cost(values: Array, priced: Costs, levels: NDArray[np.integer]) -> float:
    """Return what levels cost: distances and prices."""
    at = levels - priced.grid.low
    distances = values.astype(np.float64) - priced.grid.values[at]
    return float(np.sum(distances**2 + priced.prices[at]))
