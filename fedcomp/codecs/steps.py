"""Where the step of a tensor comes from, as codecs use it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
from annotated_types import Ge, Lt

from fedcomp.coding import quantise
from fedcomp.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.tensors import Array

Step: TypeAlias = Annotated[float, Ge(quantise.SMALLEST_STEP), Lt(quantise.STEP_BOUND)]


@contextmanager
def named(name: str) -> Iterator[None]:
    """Say in errors which tensor is meant."""
    try:
        yield
    except CodecError as error:
        msg = f"tensor {name!r}: {error}"
        raise CodecError(msg) from error


def single(step: float) -> float:
    """Return a step as it travels."""
    if step >= quantise.STEP_BOUND:
        msg = f"values that need a step of {step:g} are too large; clip the tensor"
        raise CodecError(msg)
    return float(np.float32(step))


def spanned(values: Array, bits: int, share: float) -> tuple[Array, float]:
    """Return values clipped to what `bits` bits span, and their step; 0 if nothing is left.

    The share is one of the values that are not zero: most of a sparse update is.
    """
    filled = values if share == 1 else values[values != 0]
    step = single(quantise.step_from_bits(filled, bits, share))
    if step < quantise.SMALLEST_STEP:
        return values, 0.0
    return quantise.clip_to_bits(values, step, bits), step
