"""Masks of weights as bits: how one that the receiver knows becomes another.

S ⊕ S' in two parts, within S and outside it, because weights leave a mask more often than they come
back; a part without changes is left out, one that is mostly ones is inverted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import BitstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

PARTS = {"within": (1, 2), "outside": (4, 8)}
"""By part its flags: it has changes; they are inverted."""


def told(held: Mask, mask: Mask) -> tuple[int, dict[str, NDArray[np.int32]]]:
    """Return flags, and the bits of each part, that turn the mask `held`, S, into another, S'.

    Examples
    --------
    >>> told(np.array([True, True, False, True]), np.array([True, False, False, True]))
    (1, {'within': array([0, 1, 0], dtype=int32)})
    >>> told(np.array([False, True, False]), np.array([True, True, True]))
    (12, {'outside': array([0, 0], dtype=int32)})
    """
    toggled = held ^ mask
    flags, parts = 0, {}
    for part, (there, inverted) in PARTS.items():
        where = held if part == "within" else ~held
        bits = toggled if where.all() else toggled[where]
        ones = int(np.count_nonzero(bits))
        if ones:
            most = 2 * ones > bits.size
            flags |= there | (inverted if most else 0)
            parts[part] = (bits ^ most).astype(np.int32)
    return flags, parts


def told_shapes(name: str, held: Mask, flags: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of the bits of each part of a tensor."""
    shapes: dict[str, tuple[int, ...]] = {}
    known = 0
    for part, (there, inverted) in PARTS.items():
        if flags & there:
            where = held if part == "within" else ~held
            shapes[part] = held.shape if where.all() else (int(np.count_nonzero(where)),)
            known |= there | inverted
    if not flags or flags & ~known:
        msg = f"the mask of tensor {name!r} starts with {flags}, which says nothing or too much"
        raise BitstreamError(msg)
    return shapes


def understood(name: str, held: Mask, flags: int, parts: Mapping[str, NDArray[np.int32]]) -> Mask:
    """Return S' of S and what `told` made of them."""
    mask = held.copy()
    for part, bits in parts.items():
        if ((bits != 0) & (bits != 1)).any():
            msg = f"the mask of tensor {name!r} has bits that are neither 0 nor 1"
            raise BitstreamError(msg)
        inverted = bool(flags & PARTS[part][1])
        found = (bits != 0) ^ inverted
        ones = int(np.count_nonzero(found))
        if not ones or (2 * ones > found.size) != inverted:
            msg = f"the mask of tensor {name!r} is not written as a sender writes it"
            raise BitstreamError(msg)
        where = held if part == "within" else ~held
        mask[where] ^= found.reshape(-1)
    return mask
