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
    from collections.abc import Iterable, Iterator

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
        Where R could take more, it is that of embeddings projected to fewer columns.
    seed
        The run's: all clients project alike.
    """
    if sent == "embeddings":
        return {"embeddings": embeddings.astype(np.float32)}
    rows = normalised(embeddings)
    columns = rows.shape[1]
    if columns <= PROJECTED or triangle_bytes(columns) <= max_bytes:
        return {"gram": triangle(rows)}
    return {"projected": triangle(projected(rows, seeds.generator(seed, "projection")))}


def total(sides: Iterable[Tensors], width: int) -> tuple[NDArray[np.float64] | None, int]:
    """Return the sum of Gram matrices of embeddings of that width, and how many were of no use.

    Clients of a run all send the same kind of array; others than most have are of no use.
    """
    found: dict[str, list[NDArray[np.float64]]] = {}
    count = 0
    for side in sides:
        count += 1
        for kind, matrix in _unpacked(side, width):
            found.setdefault(kind, []).append(matrix)
    if not found:
        return None, count
    most = max(found.values(), key=len)
    return np.asarray(np.sum(most, axis=0)), count - len(most)


def _unpacked(side: Tensors, width: int) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield the kind of a client's array and its Gram matrix, nothing if nobody sends the like."""
    for kind, columns in (("gram", width), ("projected", PROJECTED)):
        packed = side.get(kind)
        if packed is not None and packed.dtype == np.float16:
            matrix = gram(packed, columns)
            if matrix is not None:
                yield kind, matrix
                return
    rows = side.get("embeddings", np.empty(0))
    if rows.dtype == np.float32 and rows.shape[1:] == (width,) and np.isfinite(rows).all():
        unit = normalised(rows)
        yield "embeddings", np.asarray(unit.T @ unit)
