"""Masks of weights as bits: how one that the receiver knows becomes another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import BitstreamError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

ANYWHERE, INVERTED = 1, 2
"""Flags: the bits are those of the whole tensor, not of S alone; most of them were ones."""


def told(held: Mask, mask: Mask) -> tuple[int, NDArray[np.int32]]:
    """Return flags and bits that turn the mask `held`, S, into another one, S'.

    The bits are S ⊕ S', within S if S' lies in it, inverted if most of them are ones.

    Examples
    --------
    >>> told(np.array([True, True, False, True]), np.array([True, False, False, True]))
    (0, array([0, 1, 0], dtype=int32))
    >>> told(np.array([False, False, False]), np.array([True, True, False]))
    (3, array([0, 0, 1], dtype=int32))
    """
    toggled = held ^ mask
    anywhere = bool((toggled & ~held).any())
    bits = toggled if anywhere or held.all() else toggled[held]
    inverted = 2 * np.count_nonzero(bits) > bits.size
    flags = (ANYWHERE if anywhere else 0) | (INVERTED if inverted else 0)
    return flags, (bits ^ inverted).astype(np.int32)


def told_shape(name: str, held: Mask, flags: int) -> tuple[int, ...]:
    """Return the shape of the bits of a tensor."""
    if flags > ANYWHERE | INVERTED:
        msg = f"the mask of tensor {name!r} starts with {flags}, allowed are 0 to 3"
        raise BitstreamError(msg)
    return held.shape if flags & ANYWHERE or held.all() else (int(np.count_nonzero(held)),)


def understood(name: str, held: Mask, flags: int, bits: NDArray[np.int32]) -> Mask:
    """Return S' of S and what `told` made of them."""
    if ((bits != 0) & (bits != 1)).any():
        msg = f"the mask of tensor {name!r} has bits that are neither 0 nor 1"
        raise BitstreamError(msg)
    found = (bits != 0) ^ bool(flags & INVERTED)
    toggled = np.zeros_like(held)
    if flags & ANYWHERE or held.all():
        toggled |= found
    else:
        toggled[held] = found
    anywhere = bool((toggled & ~held).any())
    if not found.any() or anywhere != bool(flags & ANYWHERE) or 2 * bits.sum() > bits.size:
        msg = f"the mask of tensor {name!r} is not written as a sender writes it"
        raise BitstreamError(msg)
    return np.asarray(held ^ toggled)
