"""DeepCABAC's search of step size and rate weight for a target quality (arXiv:1907.11900).

Every (S, λ) gives steps Δ = range / (⌈range / min I⌉ + S) and one stream. The evaluation is the
costly part, so that all streams are written first and tried from the smallest on: the first one
that is good enough is the answer.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fedcomp.codecs.arrays import finite
from fedcomp.coding import quantise, quantise_rate
from fedcomp.coding.nnc_checks import checked_levels
from fedcomp.coding.nnc_stream import Tensor, read_model, write_model
from fedcomp.errors import CodecError
from fedcomp.tensors import difference_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fedcomp.tensors import Array, Tensors

DENSITY = 4
"""Steps per octave are 2^4: a signalled step is within 3.2 % of the formula's."""

FINE_STEP = quantise.step_from_qp(-75)
EXACT_QP = 0
EXTRAS = (0, 8, 16, 32, 64, 128, 256)
RATE_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2)
_LEAST_QP, _MOST_QP = -32 << DENSITY, (32 << DENSITY) - 1

Coded: TypeAlias = "tuple[NDArray[np.int32], int]"
"""Levels of a tensor and its qp."""


@dataclass(frozen=True)
class Found:
    """The smallest stream of the grid that is good enough.

    Attributes
    ----------
    stream
        An NNC stream; `read_model` gives back the model: real numbers as `values()` and integers,
        which float32 need not hold, as `levels`.
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
        Arrays by name. Integers within int32 come back exactly, at step 1; real ones with less
        than two axes keep a fine step (2.4e-6, or more where a level would leave int32).
    evaluate
        Metric of a model, larger is better. It gets arrays of its own.
    importance
        I by name, for each weight or for all of a tensor: the width within which a weight may
        move (half of it: one standard deviation of its posterior). A tensor without one gets
        Δ = range / S and I = 6Δ, so that only S > 0 make sense then. Tensors that keep their
        step do not look at it.
    extras, rate_weights
        The grid of S and λ. Points whose steps or levels no stream can say are left out.
    threads
        Tensors coded at the same time.
    """
    widths = importance or {}
    for name, values in tensors.items():
        finite(name, values)
    weights = [name for name, values in tensors.items() if _is_weight(values)]
    grid = _checked_grid(tensors, weights, widths, list(product(extras, rate_weights)))
    fixed = {name: _fixed(name, v) for name, v in tensors.items() if name not in weights}
    baseline = evaluate({name: values.copy() for name, values in tensors.items()})
    streams: list[tuple[bytes, int, float]] = []
    problem: CodecError | None = None
    for extra, weight in grid:
        try:
            chosen = {n: _chosen(n, tensors[n], widths.get(n), extra, weight) for n in weights}
        except CodecError as error:
            problem = error
            continue
        coded = fixed | chosen
        streams.append((_write({n: coded[n] for n in tensors}, threads), extra, weight))
    if not streams:
        msg = f"no stream can say any of {len(grid)} pairs of S and λ: {problem}"
        raise CodecError(msg) from problem
    tried: list[tuple[int, float]] = []
    for stream, extra, weight in sorted(streams, key=lambda item: len(item[0])):
        metric = evaluate(_read(stream, tensors, threads))
        tried.append((len(stream), metric))
        if metric >= baseline - tolerance:
            return Found(stream, extra, weight, metric, baseline, tuple(tried))
    best = max(metric for _, metric in tried)
    msg = (
        f"no stream of {len(streams)} keeps the metric within {tolerance:g} of {baseline:g}; the"
        f" best reaches {best:g}: allow larger S or more tolerance"
    )
    raise CodecError(msg)


def _is_weight(values: Array) -> bool:
    """Return whether the step of a tensor is searched for."""
    return values.ndim > 1 and values.dtype.kind == "f" and bool(values.any())


def _checked_grid(
    tensors: Tensors,
    weights: list[str],
    importance: Mapping[str, Array | float],
    points: list[tuple[int, float]],
) -> list[tuple[int, float]]:
    """Return the points that make sense, or raise if an argument does not."""
    unknown = [name for name in importance if name not in tensors]
    if unknown:
        msg = f"importance names {unknown[0]!r}, which is not among the tensors"
        raise CodecError(msg)
    bad = [point for point in points if point[0] < 0 or not 0 <= point[1] < math.inf]
    if bad or not points:
        given = f"{bad[0]} of the grid" if bad else "an empty grid"
        msg = f"{given} is no (S, λ); give at least one of each, 0 or more and finite"
        raise CodecError(msg)
    for name in weights:
        if name in importance:
            with _named(name):
                quantise_rate.step_from_importance(tensors[name], importance[name], 0)
    bare = [name for name in weights if name not in importance]
    allowed = [point for point in points if point[0] > 0 or not bare]
    if not allowed:
        msg = f"tensor {bare[0]!r} has no importance and needs S > 0; all S that are given are 0"
        raise CodecError(msg)
    return allowed


def _fixed(name: str, values: Array) -> Coded:
    """Return the levels of a tensor that the search leaves alone."""
    with _named(name):
        if values.dtype.kind in "iub":
            integers = values.astype(np.uint8) if values.dtype.kind == "b" else values
            return checked_levels(integers, "integers").reshape(values.shape), EXACT_QP
        flat, shape = quantise.checked_values(values)
        qp = _signalled(max(FINE_STEP, float(np.abs(flat).max(initial=0)) / 2**30))
        return quantise.uniform(flat, quantise.step_from_qp(qp, DENSITY)).reshape(shape), qp


def _chosen(
    name: str, values: Array, importance: Array | float | None, extra: int, weight: float
) -> Coded:
    """Return the levels of a weight at one point of the grid."""
    with _named(name):
        if importance is None:
            step = 2 * float(np.abs(values).max()) / extra
        else:
            step = quantise_rate.step_from_importance(values, importance, extra)
        qp = _signalled(step)
        step = quantise.step_from_qp(qp, DENSITY)
        width = 6 * step if importance is None else importance
        return quantise_rate.weighted_rate_distortion(values, step, width, weight), qp


def _write(coded: Mapping[str, Coded], threads: int) -> bytes:
    return write_model(
        {name: levels for name, (levels, _) in coded.items()},
        {name: qp for name, (_, qp) in coded.items()},
        density=DENSITY,
        row_skip=True,
        search_init="best",
        threads=threads,
    )


def _read(stream: bytes, tensors: Tensors, threads: int) -> Tensors:
    shapes = {name: values.shape for name, values in tensors.items()}
    model = read_model(stream, shapes=shapes, threads=threads)
    return {name: _values(model.tensors[name], values.dtype) for name, values in tensors.items()}


def _values(tensor: Tensor, dtype: np.dtype[Any]) -> Array:
    """Return integers as they were and real numbers at no less than float32."""
    if dtype.kind == "f":
        return tensor.values().astype(difference_dtype(dtype), copy=False)
    return tensor.levels.astype(dtype)


def _signalled(step: float) -> int:
    """Return the qp whose step is nearest, or raise if a stream cannot say it."""
    within = min(max(step, quantise.SMALLEST_STEP), quantise.STEP_BOUND / 2)
    qp = quantise.nearest_qp(within, DENSITY)
    if not _LEAST_QP <= qp <= _MOST_QP:
        msg = f"it needs a step of {step:.3g}, a stream says 2^-32 to 2^32: scale the tensor"
        raise CodecError(msg)
    return qp


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the tensor's name before what was wrong with it."""
    try:
        yield
    except CodecError as error:
        msg = f"tensor {name!r}: {error}"
        raise CodecError(msg) from error
