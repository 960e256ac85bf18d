"""How many directions a model's embeddings use: the effective rank of their rows.

    z_i = row i / ‖row i‖,  G = Σ z_i z_iᵀ,  σ_k = √(eigenvalue k of G),  p_k = σ_k / Σ σ
    E = exp(−Σ p_k log p_k),  1 ≤ E ≤ min(rows, columns)

Roy and Vetterli, "The effective rank: A measure of effective dimensionality", EUSIPCO 2007; Garrido
et al., "RankMe", ICML 2023, arXiv:2210.02885.  G has all that E needs, and Gram matrices of several
clients add up to that of all of their rows.  What travels of it is R with Rᵀ·R = G, a triangle:
its singular values are the σ themselves, which rounding moves by as little as it moves R, while the
roots of the small eigenvalues of a rounded G are noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.tensors import Array

PROJECTED = 64
"""Columns of embeddings that would take too many bytes."""


def normalised(embeddings: Array) -> NDArray[np.float64]:
    """Return embeddings, a row a sample, with rows of length 1, or 0 where nothing is to be scaled.

    Examples
    --------
    >>> normalised(np.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 1. ],
           [0. , 0. ]])
    """
    rows = embeddings.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0))


def projected(rows: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return rows in fewer columns, by a Gaussian matrix; E is then at most their number.

    Johnson and Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space", 1984.
    """
    return rows @ rng.normal(size=(rows.shape[1], PROJECTED))


def triangle(rows: NDArray[np.float64]) -> NDArray[np.float16]:
    """Return R of rows: its upper triangle, row by row.

    Examples
    --------
    >>> triangle(np.array([[3.0, 4.0], [0.0, 2.0], [4.0, 0.0]])).tolist()
    [-5.0, -2.400390625, -3.7734375]
    """
    factor = np.asarray(np.linalg.qr(rows, mode="r"))
    above = np.triu_indices(len(factor), m=factor.shape[1])
    return np.asarray(factor[above], np.float16)


def triangle_bytes(columns: int) -> int:
    """Return how many bytes R takes at most."""
    return columns * (columns + 1)


def gram(packed: Array, columns: int) -> NDArray[np.float64] | None:
    """Return G of what `triangle` made, None if it made no such thing.

    Examples
    --------
    >>> gram(triangle(np.array([[0.5, 0.0], [0.0, 1.0]])), 2)
    array([[0.25, 0.  ],
           [0.  , 1.  ]])
    >>> gram(np.ones(4), 2) is None
    True
    """
    sizes = {r * columns - r * (r - 1) // 2: r for r in range(1, columns + 1)}
    rows = sizes.get(packed.size)
    if packed.ndim != 1 or rows is None or not np.isfinite(packed).all():
        return None
    factor = np.zeros((rows, columns))
    factor[np.triu_indices(rows, m=columns)] = packed
    return np.asarray(factor.T @ factor)


def effective_rank(total: Array) -> float:
    """Return E of a sum of Gram matrices, 0 for one of zeros.

    Examples
    --------
    >>> float(round(effective_rank(np.eye(5)), 6)), float(round(effective_rank(np.ones((3, 3))), 6))
    (5.0, 1.0)
    """
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(total.astype(np.float64)), 0))
    noise = values.max(initial=0) * np.sqrt(len(values) * np.finfo(np.float64).eps)
    shares = values[values > noise]
    if not shares.size:
        return 0.0
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
