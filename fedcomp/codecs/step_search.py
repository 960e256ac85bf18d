"""DeepCABAC's search of step size and rate weight for a target quality (arXiv:1907.11900).

Every (S, λ) gives steps Δ = range / (⌈range / min I⌉ + S) and one stream. The evaluation is the
costly part, so that all streams are written first and tried from the smallest on: the first one
that is good enough is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.coding import quantise, quantise_rate
from fedcomp.coding.nnc_stream import read_model, write_model
from fedcomp.errors import CodecError
from fedcomp.tensors import difference_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fedcomp.tensors import Array, Tensors

DENSITY = 4
"""Steps per octave are 2^4: a signalled step is within 3.2 % of the formula's."""

FINE_QP = -75 * 2 ** (DENSITY - quantise.DENSITY)
EXTRAS = (0, 8, 16, 32, 64, 128, 256)
RATE_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2)
_LEAST_QP, _MOST_QP = -32 << DENSITY, (32 << DENSITY) - 1


@dataclass(frozen=True)
class Found:
    """The smallest stream of the grid that is good enough.

    Attributes
    ----------
    stream
        An NNC stream; `read_model` gives back the model.
    tried
        (bytes, metric) of every stream that was evaluated, the chosen one last.
    """

    stream: bytes = field(repr=False)
    extra: int
    rate_weight: float
    metric: float
    baseline: float
    tried: tuple[tuple[int, float], ...]


def smallest_stream(
    tensors: Tensors,
    evaluate: Callable[[Tensors], float],
    tolerance: float,
    *,
    importance: Mapping[str, Array | float] | None = None,
    extras: Sequence[int] = EXTRAS,
    rate_weights: Sequence[float] = RATE_WEIGHTS,
    threads: int = 1,
) -> Found:
    """Return the smallest stream whose metric is at least the model's own less `tolerance`.

    Parameters
    ----------
    tensors
        Real arrays by name. Those with less than two axes keep a fine step (2.4e-6).
    evaluate
        Metric of a model, larger is better.
    importance
        I by name, for each weight or for all of a tensor: the width within which a weight may
        move (half of it: one standard deviation of its posterior). A tensor without one gets
        Δ = range / S and I = 6Δ, so that only S > 0 make sense then.
    extras, rate_weights
        The grid of S and λ.
    threads
        Tensors coded at the same time.
    """
    widths = importance or {}
    baseline = evaluate(dict(tensors))
    least = 0 if all(name in widths for name, v in tensors.items() if v.ndim > 1) else 1
    grid = [(s, weight) for s, weight in product(extras, rate_weights) if s >= least]
    streams = sorted(
        ((_write(tensors, widths, *point, threads), point) for point in grid),
        key=lambda item: len(item[0]),
    )
    tried: list[tuple[int, float]] = []
    for stream, (extra, weight) in streams:
        metric = evaluate(_read(stream, tensors, threads))
        tried.append((len(stream), metric))
        if metric >= baseline - tolerance:
            return Found(stream, extra, weight, metric, baseline, tuple(tried))
    best = max((metric for _, metric in tried), default=float("nan"))
    msg = (
        f"no stream of {len(grid)} keeps the metric within {tolerance:g} of {baseline:g}; the best"
        f" reaches {best:g}: allow larger S or more tolerance"
    )
    raise CodecError(msg)


def _write(
    tensors: Tensors,
    importance: Mapping[str, Array | float],
    extra: int,
    weight: float,
    threads: int,
) -> bytes:
    levels: Tensors = {}
    qps: dict[str, int] = {}
    for name, values in tensors.items():
        largest = float(np.abs(values).max(initial=0))
        if values.ndim < 2 or not largest:
            qps[name] = _within(max(FINE_QP, _qp(largest / 2**30)))
            levels[name] = quantise.uniform(values, quantise.step_from_qp(qps[name], DENSITY))
            continue
        if name in importance:
            width: Array | float = importance[name]
            step = quantise_rate.step_from_importance(values, width, extra)
        else:
            step = 2 * largest / extra
        qps[name] = _within(_qp(step))
        step = quantise.step_from_qp(qps[name], DENSITY)
        width = importance.get(name, 6 * step)
        levels[name] = quantise_rate.weighted_rate_distortion(values, step, width, weight)
    return write_model(
        levels, qps, density=DENSITY, row_skip=True, search_init=True, threads=threads
    )


def _read(stream: bytes, tensors: Tensors, threads: int) -> Tensors:
    shapes = {name: values.shape for name, values in tensors.items()}
    model = read_model(stream, shapes=shapes, threads=threads)
    return {
        name: tensor.values().astype(difference_dtype(tensors[name].dtype), copy=False)
        for name, tensor in model.tensors.items()
    }


def _qp(step: float) -> int:
    return quantise.nearest_qp(max(step, quantise.SMALLEST_STEP), DENSITY)


def _within(qp: int) -> int:
    """Return the nearest qp that a stream can signal."""
    return min(max(qp, _LEAST_QP), _MOST_QP)
