"""k-means: the codebook of each tensor, and which of its centroids is nearest to each weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from fedcomp.codecs.base import About
from fedcomp.codecs.clusters import centroids, nearest
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.numbered import Numbered, NumberedCodec
from fedcomp.codecs.steps import single
from fedcomp.coding import quantise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context
    from fedcomp.tensors import Array, TensorSpec


@dataclass(frozen=True)
class KMeans(NumberedCodec):
    """c_i for each weight, i = argmin |w − c_i| and c the k centroids of least ‖w − C(w)‖².

    Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28(2), 1982;
    Han, Mao, Dally, "Deep Compression", ICLR 2016, arXiv:1510.00149, for weights.  A mean is the
    point of least squared distance, so that no cluster is farther from its own than from 0.

    Parameters
    ----------
    clusters
        k; a tensor of fewer weights has as many centroids, each of 32 bits.
    keep_zero
        Hold the centroid nearest to 0 at 0, so that weights which do not change stay as they are.
    coder
        How the indices are written; they count from the centroid nearest to 0.
    """

    name: ClassVar[str] = "kmeans"
    about: ClassVar[About] = About(
        paper="Lloyd, IEEE T-IT 1982; Han et al., ICLR 2016, arXiv:1510.00149",
        formula="c_i, i = argmin |w − c_i|, c = argmin ‖w − C(w)‖²",
        bias="biased",
        cost="O(n log n)",
    )

    clusters: Annotated[int, Ge(2), Le(256)] = 16
    keep_zero: bool = False
    coder: Coder = "cabac"

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how indices are written."""
        return Coding(self.coder)

    def numbered(self, name: str, values: Array, context: Context) -> Numbered | None:  # noqa: ARG002
        """Return indices, and the centroids that are used."""
        single(float(np.abs(values).max()))  # refuses what has no square
        found = centroids(values, self.clusters, keep_zero=self.keep_zero).astype(np.float32)
        found[np.abs(found) < quantise.SMALLEST_STEP] = 0
        found = np.unique(found)
        indices = nearest(values, found)
        used = np.bincount(indices.reshape(-1), minlength=len(found)) > 0
        book = found[used]
        if not book.any():
            return None
        levels = (np.cumsum(used) - 1)[indices] - _origin(book)
        return Numbered(levels.astype(np.int32), _padded(book, min(self.clusters, values.size)))

    def numbers_of(self, spec: TensorSpec) -> int:
        """Return the size of a tensor's codebook."""
        return min(self.clusters, spec.size)

    def fault(self, symbol: Numbered, spec: TensorSpec) -> str:  # noqa: ARG002
        """Say what is wrong with indices or codebook."""
        book = np.unique(symbol.numbers)
        sizes = np.abs(book[book != 0])
        usual = (sizes >= quantise.SMALLEST_STEP) & (sizes < quantise.STEP_BOUND)
        ascending = np.array_equal(symbol.numbers, _padded(book, len(symbol.numbers)))
        if not (ascending and usual.all() and len(sizes)):
            return f"a codebook such as {symbol.numbers[:8].tolist()} no sender would have given"
        indices = symbol.levels.reshape(-1) + np.int64(_origin(book))
        if indices.min() < 0 or indices.max() >= len(book):
            return f"has indices outside its codebook of {len(book)} centroids"
        if not np.bincount(indices, minlength=len(book)).all():
            return "has centroids that no weight uses"
        return ""

    def weights(self, name: str, symbol: Numbered, context: Context) -> Array:  # noqa: ARG002
        """Return the centroid of each weight."""
        return symbol.numbers[symbol.levels + _origin(symbol.numbers)]


def _origin(book: NDArray[np.float32]) -> int:
    """Return the index of the centroid nearest to 0, which in most tensors is used most."""
    return int(np.abs(book).argmin())


def _padded(book: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return a codebook of that size, the last centroid repeated."""
    return np.pad(book, (0, size - len(book)), mode="edge")
