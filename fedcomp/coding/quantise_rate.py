"""Uniform levels chosen by distortion and rate, with the rates of the NNC coder itself.

Both quantisers walk through a tensor in the coder's order, know its context states at every level,
choose the cheapest candidate and let the contexts see it. They take it that the coder skips no
rows and starts all contexts from set 0, as `encode_levels` does by default.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.nnc_contexts import GREATER_FLAGS, context_count
from fedcomp.coding.nnc_tables import costs, starts, transitions
from fedcomp.coding.quantise import check_range, checked_step, checked_values
from fedcomp.errors import CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rate_distortion(values: NDArray[Any], step: float, weight: float) -> NDArray[np.int32]:
    """Return the levels of least distortion and rate among 0 and the two below |w| / Δ + ½.

    q = argmin (|w| / Δ − q)² + λ·R(q) over {0, max(1, n − 1), n}, n = ⌊|w| / Δ + ½⌋, R in bits, as
    NNCodec's with λ = lambda_scale · ln 2 / 6 (its R ignores the sign and one greater-than flag).

    Parameters
    ----------
    values, step
        The tensor and Δ.
    weight
        λ, in Δ² a bit; 0 is `uniform`.

    Examples
    --------
    >>> rate_distortion(np.array([0.6, 0.1, 0.2, 0.6, 2.3, -0.4]), 1.0, 0.1).tolist()
    [0, 0, 0, 0, 2, 0]
    """
    from fedcomp.coding import quantise_rate_loops

    flat, shape = checked_values(values)
    levels = np.empty(flat.size, np.int32)
    status = quantise_rate_loops.choose_nearest(
        *(flat, checked_step(step), _checked_weight(weight), levels),
        *(np.tile(starts()[0], context_count(GREATER_FLAGS)), transitions(), costs()),
    )
    check_range(flat, step, status)
    return levels.reshape(shape)


def weighted_rate_distortion(
    values: NDArray[Any], step: float, importance: NDArray[Any] | float, weight: float
) -> NDArray[np.int32]:
    """Return the levels of DeepCABAC (Wiedemann et al., 2020), which spare important weights.

    q = argmin ((w − qΔ) / (I / 2))² + λ·R(q) over all |w − qΔ| ≤ 3·I and the nearest level; R in
    bits. At most 64 levels on either side of the nearest are tried, and 0.

    Parameters
    ----------
    values, step
        The tensor and Δ.
    importance
        I, the width within which a weight may move, for each weight or for all.
    weight
        λ, squared half-widths a bit.

    Examples
    --------
    >>> importance = np.array([9.0, 0.5])
    >>> weighted_rate_distortion(np.array([1.6, 1.6]), 1.0, importance, 0.1).tolist()
    [0, 2]
    """
    from fedcomp.coding import quantise_rate_loops

    flat, shape = checked_values(values)
    widths = _checked_importance(importance, shape)
    levels = np.empty(flat.size, np.int32)
    status = quantise_rate_loops.choose_weighted(
        *(flat, checked_step(step), widths, _checked_weight(weight), levels),
        *(np.tile(starts()[0], context_count(GREATER_FLAGS)), transitions(), costs()),
    )
    check_range(flat, step, status)
    return levels.reshape(shape)


def step_from_importance(
    values: NDArray[Any], importance: NDArray[Any] | float, extra: int = 256
) -> float:
    """Return DeepCABAC's step for S extra steps (Wiedemann et al., 2020).

    Δ = range / (⌈range / min I⌉ + S), range = 2·max(|w| + I / 2).

    Examples
    --------
    >>> step_from_importance(np.array([0.5, -1.0]), 0.5, extra=5)
    0.25
    """
    flat, shape = checked_values(values)
    widths = _checked_importance(importance, shape)
    if extra < 0:
        raise CodecError(f"{extra} extra steps are impossible; give 0 or more")
    if not flat.size or not np.isfinite(flat).all():
        raise CodecError("a tensor that is empty or not finite has no step")
    span = 2 * float((np.abs(flat) + widths / 2).max())
    return span / (math.ceil(span / float(widths.min())) + extra)


def _checked_weight(weight: float) -> float:
    """Return λ if it is one."""
    if not 0 <= weight < math.inf:
        raise CodecError(f"weight {weight} of the rate is impossible; give 0 or more")
    return float(weight)


def _checked_importance(
    importance: NDArray[Any] | float, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return I flat: one number, or one for each weight."""
    array = np.asarray(importance, np.float64)
    if array.shape not in ((), shape):
        raise CodecError(f"importance has shape {array.shape}, the values have {shape}")
    if not ((array > 0) & np.isfinite(array)).all():
        raise CodecError("every importance must be positive and finite")
    return np.ascontiguousarray(array).reshape(-1)
