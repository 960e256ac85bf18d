"""How many directions a model's embeddings use: the effective rank of their rows.

    z_i = row i / ‖row i‖,  G = Σ z_i z_iᵀ,  σ_k = √(eigenvalue k of G),  p_k = σ_k / Σ σ
    E = exp(−Σ p_k log p_k),  1 ≤ E ≤ min(rows, columns)

Roy and Vetterli, "The effective rank: A measure of effective dimensionality", EUSIPCO 2007; Garrido
et al., "RankMe", ICML 2023, arXiv:2210.02885.  G has all that E needs, and Gram matrices of several
clients add up to that of all of their rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.tensors import Array


def gram(embeddings: Array) -> NDArray[np.float64]:
    """Return G of embeddings, a row a sample; rows of zeros count for nothing.

    Examples
    --------
    >>> gram(np.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]]))
    array([[0.36, 0.48],
           [0.48, 1.64]])
    """
    rows = embeddings.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return np.asarray(rows.T @ rows)


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
