"""DeepCABAC after training: the smallest stream that the validation metric bears.

    q = argmin e·(w / Δ − q)² + λ·R(q),  Δ = s·√(rms(w) / √F̄),  e = F / F̄ within 1/64 … 64

F is the diagonal of the empirical Fisher information over some training batches, F̄ its mean over a
tensor, R the bits of the coder.  The step of a tensor is the geometric mean of one in proportion to
its weights and one that costs all tensors the same loss; s is common to all of them.  Wiedemann et
al., "DeepCABAC", IEEE JSTSP 2020, arXiv:1907.11900, has one step for all and searches it and λ for
the best of many streams; here s is bisected.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from fedcomp import seeds
from fedcomp.codecs.arrays import finite
from fedcomp.codecs.grid import STEP_DENSITY
from fedcomp.codecs.nnc import IMPORTANCE
from fedcomp.coding import quantise
from fedcomp.coding.quantise_rate import weighted_rate_distortion
from fedcomp.errors import CodecError
from fedcomp.models.base import load_tensors
from fedcomp.quantise.stream import Coded, complete, read, write
from fedcomp.report.units import megabytes
from fedcomp.training.batches import Batches
from fedcomp.training.importance import SquaredGradients
from fedcomp.training.loop import batch_ends, index_batches, place
from fedcomp.training.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fedcomp.quantise.case import Case
    from fedcomp.quantise.settings import QuantiseSettings
    from fedcomp.tensors import Array, Tensors

OFFSETS = tuple(range(-768, 257, 16))
"""What is added to the qp of all tensors: s from 1/64 to 4, 8 steps an octave."""

RATE_WEIGHTS = (0.0, 0.02, 0.05, 0.1)
"""λ, in Δ² a bit; 0 is the nearest level."""

FISHER_BATCHES = 32
_MEANS = (2.0**-20, 2.0**20)
_LARGEST_QP = (32 << STEP_DENSITY) - 1


class Point(NamedTuple):
    """An offset of the qp, and λ."""

    offset: int
    weight: float


def smallest(
    offsets: Sequence[int],
    weights: Sequence[float],
    size: Callable[[Point], int],
    good: Callable[[Point], bool],
) -> Point | None:
    """Return the good point of the least size, None if there is none; `good` is called rarely.

    For each λ the coarsest good step is bisected, among those alone that are smaller than the best
    so far.  That finds the smallest of all if size and quality fall with the step; where the metric
    wavers the answer is good, and a smaller one may have been missed.

    Examples
    --------
    >>> tried = []
    >>> def good(point):
    ...     tried.append(tuple(point))
    ...     return point.offset * (1 + point.weight) < 6
    >>> smallest(range(8), [0.0, 0.5, 0.25], lambda p: 100 - p.offset - 5 * p.weight, good)
    Point(offset=3, weight=0.5)
    >>> tried
    [(4, 0.0), (6, 0.0), (5, 0.0), (3, 0.5), (6, 0.5), (5, 0.5), (4, 0.5), (5, 0.25)]
    """
    best: Point | None = None
    for weight in weights:
        points = [Point(offset, weight) for offset in offsets]
        low = 0
        if best is not None:
            least = size(best)
            low = _first(points, 0, lambda p: size(p) < least)  # noqa: B023  it is called at once
            if low == len(points) or not good(points[low]):
                continue  # nor is anything coarser
            low += 1
        if bad := _first(points, low, lambda p: not good(p)):
            best = points[bad - 1]
    return best


def search_stream(
    case: Case, settings: QuantiseSettings, say: Callable[[str], None]
) -> tuple[dict[str, Coded], dict[str, Any]]:
    """Return the tensors of the smallest stream, and what was tried; tell `say` as well."""
    least = case.measure(case.validation, case.model)[case.metric] - settings.tolerance
    fisher = importance(case)
    steps = relative_steps(case, fisher)
    tried: list[dict[str, float]] = []

    def coded(point: Point) -> dict[str, Coded]:
        found = {
            name: quantised(case.model[name], step, fisher.get(name), point)
            for name, step in steps.items()
        }
        return complete(found, case.model, case.manifest)

    @cache
    def stream(point: Point) -> bytes:
        return write(coded(point))

    def good(point: Point) -> bool:
        held = stream(point)
        metric = case.measure(case.validation, read(held, case.manifest))[case.metric]
        scale = 2 ** (point.offset / 2**STEP_DENSITY)
        row = {"scale": scale, "rate_weight": point.weight, "bytes": len(held)}
        tried.append({**row, f"validation_{case.metric}": metric})
        say(
            f"s {scale:.4f}, λ {point.weight:g}: {megabytes(len(held))}, validation"
            f" {case.metric} {metric:.4f}{'' if metric >= least else ', too low'}"
        )
        return metric >= least

    best = smallest(OFFSETS, RATE_WEIGHTS, lambda point: len(stream(point)), good)
    if best is None:
        msg = (
            f"tolerance={settings.tolerance:g}: even the finest steps bring the validation"
            f" {case.metric} below {least:.4f}; allow more"
        )
        raise CodecError(msg)
    scale = 2 ** (best.offset / 2**STEP_DENSITY)
    return coded(best), {"scale": scale, "rate_weight": best.weight, "tried": tried}


def importance(case: Case) -> Tensors:
    """Return η of each parameter of the checkpoint over some training batches."""
    load_tensors(case.module, case.model)
    device = place(case.module, case.loop)
    case.module.eval()
    squares = SquaredGradients(case.module)
    rng = seeds.generator(case.seed, "importance")
    batches = Batches(case.train, device, channels_last=case.loop.channels_last)
    ends = batch_ends(len(case.train), case.loop.batch_size)
    for index in index_batches(len(case.train), ends, FISHER_BATCHES, rng):
        inputs, targets = batches.training(index, rng)
        case.module.zero_grad(set_to_none=True)
        torch.autograd.backward(TASKS[case.task].loss(case.module(inputs), targets))
        squares.add()
    case.module.zero_grad(set_to_none=True)
    return squares.relative()


def relative_steps(case: Case, fisher: Mapping[str, Array]) -> dict[str, float]:
    """Return Δ of each weight tensor but those of zeros, at s = 1: rms(w) in the geometric mean."""
    found: dict[str, float] = {}
    sizes, logs = [], []
    for spec in case.manifest.weights:
        values = finite(spec.name, case.model[spec.name]).astype(np.float64)
        size = math.sqrt(float(np.square(values).mean())) if values.size else 0.0
        if size:
            mean = np.clip(float(fisher[spec.name].mean()) if spec.name in fisher else 1.0, *_MEANS)
            found[spec.name] = math.sqrt(size / math.sqrt(mean))
            sizes.append(spec.size)
            logs.append(math.log(size / found[spec.name]))
    scale = math.exp(float(np.average(logs, weights=sizes))) if found else 1.0
    return {name: step * scale for name, step in found.items()}


def quantised(values: Array, step: float, fisher: Array | None, point: Point) -> Coded:
    """Return the levels of a tensor at a point of the search, with Δ as it is at s = 1."""
    qp = quantise.nearest_qp(max(step, quantise.SMALLEST_STEP), STEP_DENSITY) + point.offset
    qp = min(max(qp, -_LARGEST_QP - 1), _LARGEST_QP)
    own = quantise.step_from_qp(qp, STEP_DENSITY)
    width: Array | float = 2 * own
    if fisher is not None and (mean := float(fisher.mean())) > 0:
        width = 2 * own / np.sqrt(np.clip(fisher / mean, *IMPORTANCE))
    return Coded(weighted_rate_distortion(values, own, width, point.weight), qp)


def _first(points: Sequence[Point], low: int, wanted: Callable[[Point], bool]) -> int:
    """Return the first place from `low` on where something begins to hold, else the length."""
    high = len(points)
    while low < high:
        middle = (low + high) // 2
        if wanted(points[middle]):
            high = middle
        else:
            low = middle + 1
    return low
