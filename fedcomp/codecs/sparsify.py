"""Which weights of an update are worth sending, by the thresholds of FSFL and NNCodec.

unstructured   |w| < θ, θ = max(|μ − δσ|, |μ + δσ|, Δ/2) for each tensor's own μ and σ
structured     filters whose mean |w| is below γ times the mean over all filters
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedcomp.tensors import Array, Tensors


def below_threshold(values: Array, delta: float, step: float) -> Array:
    """Return the values with those below θ(δ, Δ) set to 0.

    Examples
    --------
    >>> below_threshold(np.array([-3.0, 0.2, 1.0, 4.0, -2.2]), 1.0, 0.5)
    array([-3.,  0.,  0.,  4.,  0.])
    """
    theta = max(_spread(values, delta), step / 2)
    return np.where(np.abs(values) < theta, values.dtype.type(0), values)


def below_filter_gain(values: Array, gain: float) -> Array:
    """Return the values without the filters, rows of the first axis, that change too little.

    Examples
    --------
    >>> below_filter_gain(np.array([[1.0, 1.0], [0.1, 0.0], [4.0, 0.0]]), 0.9)
    array([[1., 1.],
           [0., 0.],
           [4., 0.]])
    """
    sizes = np.abs(values).reshape(len(values), -1).mean(axis=1, dtype=np.float64)
    weak = sizes < gain * sizes.mean()
    return np.where(weak.reshape(-1, *[1] * (values.ndim - 1)), values.dtype.type(0), values)


def delta_for(tensors: Tensors, sparsity: float, step: float) -> float:
    """Return a δ with which a share of all weights together falls below θ, but one stays.

    A weight falls at δ = (|w| − |μ|)/σ, because max(|μ − δσ|, |μ + δσ|) = |μ| + δσ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> update = {"a": rng.normal(size=1000), "b": rng.laplace(size=(20, 100))}
    >>> delta = delta_for(update, 0.9, 0.0)
    >>> kept = [np.count_nonzero(below_threshold(w, delta, 0.0)) for w in update.values()]
    >>> int(sum(kept))
    300
    """
    falls = []
    for values in tensors.values():
        spread = float(values.std(dtype=np.float64))
        size = np.abs(values).reshape(-1).astype(np.float64)
        if spread > 0:
            at = (size - abs(float(values.mean(dtype=np.float64)))) / spread
        else:  # zeros are gone whatever δ is, other constants never
            at = np.where(size > 0, np.inf, -np.inf)
        falls.append(np.where(size < step / 2, -np.inf, at))
    every = np.concatenate(falls) if falls else np.empty(0)
    if not np.isfinite(every).any():
        return 0.0
    rank = min(int(np.ceil(sparsity * every.size)), int(np.count_nonzero(every < np.inf)) - 1)
    ordered = np.partition(every, [max(rank - 1, 0), rank])
    largest_gone = max(float(ordered[rank - 1]), 0.0) if rank else 0.0
    return (largest_gone + max(float(ordered[rank]), 0.0)) / 2  # between them: no rounding decides


def _spread(values: Array, delta: float) -> float:
    mean = float(values.mean(dtype=np.float64))
    return abs(mean) + delta * float(values.std(dtype=np.float64))
