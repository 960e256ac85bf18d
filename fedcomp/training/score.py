"""What a client sends for the server's score of the representation, and what the server reads.

One array beside the model: `gram`, R of the embeddings' Gram matrix; `projected`, that of
embeddings in 64 dimensions; or the `embeddings` themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from fedcomp import seeds
from fedcomp.training.representation import (
    PROJECTED,
    gram,
    normalised,
    projected,
    triangle,
    triangle_bytes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.tensors import Array, Tensors

Sent: TypeAlias = Literal["gram", "embeddings"]


def pack(embeddings: Array, sent: Sent, max_bytes: int, seed: int) -> Tensors:
    """Return embeddings, a row a sample, as they travel.

    Parameters
    ----------
    sent
        R, or all of them as float32.
    max_bytes
        Where R could take more, it is that of projected embeddings.
    seed
        The run's: all clients project alike.
    """
    if sent == "embeddings":
        return {"embeddings": embeddings.astype(np.float32)}
    rows = normalised(embeddings)
    if triangle_bytes(rows.shape[1]) <= max_bytes:
        return {"gram": triangle(rows)}
    return {"projected": triangle(projected(rows, seeds.generator(seed, "projection")))}


def unpack(side: Tensors, width: int) -> NDArray[np.float64] | None:
    """Return the Gram matrix of embeddings of that width, None of what nobody sends."""
    match side:
        case {"gram": packed}:
            return gram(packed, width)
        case {"projected": packed}:
            return gram(packed, PROJECTED)
        case {"embeddings": rows} if rows.shape[1:] == (width,) and np.isfinite(rows).all():
            unit = normalised(rows)
            return np.asarray(unit.T @ unit)
    return None
