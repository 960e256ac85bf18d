"""Real numbers to levels and back: uniform, clipped, dependent, and where steps come from.

`step_from_qp` and its inverses are the standard's scale of steps (ISO/IEC 15938-17). Quantisation
by rate and distortion is in `quantise_rate`. Numba is imported with the first tensor.
"""

from __future__ import annotations

import math
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.nnc_checks import checked_levels, read_only
from fedcomp.errors import CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DENSITY = 2
"""Binary logarithm of the steps per octave in a stream that does not say otherwise."""

# Within these, every int32 times the step is a finite float32, and every step a normal one.
SMALLEST_STEP, STEP_BOUND = 2.0**-126, 2.0**97


def step_from_qp(qp: int, density: int = DENSITY) -> float:
    """Return the step of a quantisation parameter (ISO/IEC 15938-17).

    Δ = (2^d + (qp mod 2^d)) · 2^(⌊qp / 2^d⌋ − d): 2^d more in qp double it.

    Examples
    --------
    >>> step_from_qp(-44), step_from_qp(-48), step_from_qp(-38)
    (0.00048828125, 0.000244140625, 0.00146484375)
    """
    steps = 1 << _checked_density(density)
    octave = index(qp) >> density
    if not -126 <= octave < 97:
        low, high = -126 * steps, 97 * steps - 1
        raise CodecError(f"qp {qp} is out of range; at qp density {density} use {low} to {high}")
    return math.ldexp(steps + (qp & (steps - 1)), octave - density)


def nearest_qp(step: float, density: int = DENSITY) -> int:
    """Return the quantisation parameter whose step is nearest.

    Examples
    --------
    >>> nearest_qp(0.001), step_from_qp(nearest_qp(0.001))
    (-40, 0.0009765625)
    """
    steps = 1 << _checked_density(density)
    mantissa, exponent = math.frexp(checked_step(step))
    qp = (exponent - 1) * steps + math.floor((2 * mantissa - 1) * steps + 0.5)
    return min(qp, 97 * steps - 1)


def qp_from_step(step: float, density: int = DENSITY) -> int:
    """Return the quantisation parameter of a step that has one; see `nearest_qp` for others.

    Examples
    --------
    >>> qp_from_step(2**-11)
    -44
    """
    qp = nearest_qp(step, density)
    near = step_from_qp(qp, density)
    if near != step:
        raise CodecError(
            f"no qp has step {step} at qp density {density}; the nearest is qp {qp}, step {near}"
        )
    return qp


def uniform(values: NDArray[Any], step: float) -> NDArray[np.int32]:
    """Return the nearest levels, q = sgn(w)·⌊|w| / Δ + ½⌋.

    The quotient is a double. NNCodec multiplies by 1 / Δ in float32, so that its levels beyond
    some 2^18 may be others where Δ is no power of two.

    Examples
    --------
    >>> uniform(np.array([0.5, -0.5, 1.5, 2.5, 0.49, -2.51]), 1.0).tolist()
    [1, -1, 2, 3, 0, -3]
    """
    from fedcomp.coding import quantise_loops

    flat, shape = checked_values(values)
    levels = np.empty(flat.size, np.int32)
    check_range(flat, step, quantise_loops.quantise_uniform(flat, checked_step(step), levels))
    return levels.reshape(shape)


def step_from_bits(values: NDArray[Any], bits: int, share: float = 1.0) -> float:
    """Return the step at which `bits` bits span a share of the values, all but the largest.

    Δ = Q(|w|) / (2^(b−1) − 1), or Q(|w|) / (2^b − 1) where no value is negative, Q being the
    quantile at `share`; NNCodec takes 0.9995. A tensor of zeros has step 0.

    Examples
    --------
    >>> step_from_bits(np.array([-3.0, 7.0]), 4), step_from_bits(np.array([3.0, 7.5]), 4)
    (1.0, 0.5)
    """
    flat, _ = checked_values(values)
    _checked_bits(bits)
    if not 0 < share <= 1:
        raise CodecError(f"share {share} of the values is impossible; give one above 0, up to 1")
    if not flat.size or not np.isfinite(flat).all():
        raise CodecError("a tensor that is empty or not finite has no step")
    sizes = np.abs(flat)
    # 0.07 · 100 is 7.000000000000001 in doubles, and 7 is meant.
    rank = max(math.ceil((share - 1e-9) * flat.size), 1) - 1
    span = float(sizes.max()) if share == 1 else float(np.partition(sizes, rank)[rank])
    low, high = level_range(bits, signed=bool((flat < 0).any()))
    return (span or float(sizes.max())) / max(high, -low)


def level_range(bits: int, *, signed: bool) -> tuple[int, int]:
    """Return the least and the largest level of so many bits, symmetric if signed.

    Examples
    --------
    >>> level_range(4, signed=True), level_range(4, signed=False)
    ((-7, 7), (0, 15))
    """
    high = (1 << (_checked_bits(bits) - int(signed))) - 1
    return (-high if signed else 0), high


def clip_to_bits(values: NDArray[Any], step: float, bits: int) -> NDArray[Any]:
    """Return values whose nearest levels are of so many bits.

    Examples
    --------
    >>> clip_to_bits(np.array([-100.0, 2.5, 7.0]), 1.0, 4).tolist()
    [-7.0, 2.5, 7.0]
    """
    array = np.asarray(values)
    low, high = level_range(bits, signed=bool((array < 0).any()))
    clipped: NDArray[Any] = np.clip(array, low * step, high * step)
    return clipped


def dependent(values: NDArray[Any], step: float) -> NDArray[np.int32]:
    """Return the levels of least squared error that the 8-state quantiser can spell.

    Even states reconstruct at even multiples of Δ and odd ones at odd multiples and 0; the parity
    of the index k leads to the next state (dependent, or trellis-coded, quantisation; Haase et
    al., ICIP 2020). The levels are r = 2k − sgn(k)·(state & 1), so that ŵ = r·Δ. At equal rate Δ
    is half of a uniform quantiser's.

    Examples
    --------
    >>> weights = np.array([0.021, -0.013, 0, 0.038, 0.031, -0.002, 0.009, -0.027])
    >>> dependent(weights, step_from_qp(-28)).tolist()
    [2, -2, 0, 4, 3, 0, 1, -4]
    """
    from fedcomp.coding import quantise_loops

    flat, shape = checked_values(values)
    levels = np.empty(flat.size, np.int32)
    choices = np.empty(flat.size, np.uint16)
    status = quantise_loops.quantise_dependent(flat, checked_step(step), choices, levels)
    check_range(flat, step, status)
    return levels.reshape(shape)


def dequantise(levels: NDArray[Any], step: float) -> NDArray[np.float32]:
    """Return ŵ = q·Δ, computed in double and then rounded to float32.

    Examples
    --------
    >>> dequantise(np.array([3, -2]), 0.25).tolist()
    [0.75, -0.5]
    """
    from fedcomp.coding import quantise_loops

    flat = checked_levels(levels)
    values = np.empty(flat.size, np.float32)
    quantise_loops.dequantise(flat, checked_step(step), values)
    return values.reshape(np.shape(levels))


def checked_step(step: float) -> float:
    """Return the step if no level times it leaves float32."""
    if not SMALLEST_STEP <= step < STEP_BOUND:
        raise CodecError(f"step {step} is impossible; it must be within 2^-126 and 2^97")
    return float(step)


def checked_values(values: NDArray[Any]) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Return real numbers flat, as float32 or float64, and their shape."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise CodecError(f"cannot quantise an array of {array.dtype}; give real numbers")
    single = array.dtype in (np.float16, np.float32)
    flat = np.ascontiguousarray(array, np.float32 if single else np.float64).reshape(-1)
    return read_only(flat), array.shape


def check_range(flat: NDArray[Any], step: float, status: int) -> None:
    """Raise if a loop met a value that is no level of int32."""
    if status < 0:
        return
    value = float(flat[status])
    if not math.isfinite(value):
        raise CodecError(f"value {value} at position {status} cannot be quantised")
    need = nearest_qp(min(max(abs(value) / (2**31 - 8), SMALLEST_STEP), STEP_BOUND / 2)) + 1
    raise CodecError(
        f"value {value:g} at position {status} over step {step:g} does not fit into int32; "
        f"raise the step to {step_from_qp(need):g} (qp {need}) or clip the tensor"
    )


def _checked_bits(bits: int) -> int:
    """Return the width if levels of it have a sign and fit into int32."""
    if not 2 <= bits <= 31:
        raise CodecError(f"levels of {bits} bits are impossible; 2 to 31 are allowed")
    return bits


def _checked_density(density: int) -> int:
    """Return the logarithm of the steps per octave if a stream can say it."""
    if not 0 <= density <= 7:
        raise CodecError(f"qp density {density} is impossible; 0 to 7 are allowed")
    return density
