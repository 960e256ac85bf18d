"""What coders and quantisers take: flat int32, a possible shape, a base of the same shape."""

from __future__ import annotations

import math
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LIMITS = np.iinfo(np.int32)
MOST_AXES, MOST_LEVELS = 64, 2**61 - 1
"""What numpy takes, were there the memory."""


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape as a tuple of Python integers."""
    sides = tuple(index(side) for side in shape)
    if any(side < 0 for side in sides):
        raise CodecError(f"shape {sides} has a negative side")
    if len(sides) > MOST_AXES or math.prod(max(side, 1) for side in sides) > MOST_LEVELS:
        raise CodecError(
            f"shape {sides} is impossible; {MOST_AXES} axes are allowed and 2^61 − 1 elements, "
            "sides of 0 counted as 1"
        )
    return sides


def rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows that can be skipped and their width; 1 row where there are none."""
    width = math.prod(shape[1:])
    size = math.prod(shape)
    return (shape[0], width) if width > 1 and size > width else (1, size)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written, so that the loops are compiled for one kind only."""
    view = array.view()
    view.flags.writeable = False
    return view


def checked_flags(flags: int) -> int:
    """Return G if a stream can say it."""
    if not 1 <= flags <= 256:
        raise CodecError(f"{flags} greater-than flags are impossible; 1 to 256 are allowed")
    return flags


def checked_levels(levels: NDArray[Any], name: str = "levels") -> NDArray[np.int32]:
    """Return the levels flat and as int32, not to be written, or raise if one does not fit."""
    array = np.asarray(levels)
    if array.dtype.kind not in "iu":
        raise CodecError(
            f"{name} must be an array of integers, not of {array.dtype}: quantise them first"
        )
    if not np.can_cast(array.dtype, np.int32) and array.size:
        low, high = int(array.min()), int(array.max())
        if low < LIMITS.min or high > LIMITS.max:
            raise CodecError(
                f"{name} from {low} to {high} do not fit into int32 ({LIMITS.min} to {LIMITS.max})"
            )
    return read_only(np.ascontiguousarray(array, np.int32).reshape(-1))


def checked_base(base: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the base flat and as int32."""
    if np.shape(base) != shape:
        raise CodecError(f"base has shape {np.shape(base)}, the levels have {shape}")
    return checked_levels(base, "base")
