"""Codecs with a codebook: few centroids of each tensor, and the nearest one for each weight."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from annotated_types import Ge, Le

from fedcomp.codecs.clusters import nearest
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.lazy import each
from fedcomp.codecs.numbered import Numbered, NumberedCodec
from fedcomp.codecs.steps import single
from fedcomp.coding import quantise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context, Symbols
    from fedcomp.tensors import Array, Tensors, TensorSpec


@dataclass(frozen=True)
class CodebookCodec(NumberedCodec):
    """c_i for each weight, i = argmin |w − c_i|; where c comes from is the codec's own.

    Parameters
    ----------
    clusters
        Most centroids of a tensor, each of 32 bits; one of fewer weights has as many.
    coder
        How the indices are written; they count from the centroid nearest to 0.
    """

    clusters: Annotated[int, Ge(2), Le(256)] = 16
    coder: Coder = "cabac"

    @abstractmethod
    def centres(self, values: Array) -> NDArray[np.float64]:
        """Return at most `clusters` centroids of a tensor that is not all zero, ascending."""

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how indices are written."""
        return Coding(self.coder)

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Quantise several tensors at the same time, for each has to be sorted."""
        context.manifest.check(tensors)
        sizes = [value.size for value in tensors.values()]
        found = each(lambda name: self.quantised(name, tensors[name], context), [*tensors], sizes)
        return dict(zip(tensors, found, strict=True))

    def numbered(self, name: str, values: Array, context: Context) -> Numbered | None:  # noqa: ARG002
        """Return indices, and the centroids that are used."""
        single(float(np.abs(values).max()))  # refuses what has no square
        found = self.centres(values).astype(np.float32)
        found[np.abs(found) < quantise.SMALLEST_STEP] = 0
        found = np.unique(found)
        indices = nearest(values, found)
        used = np.bincount(indices.reshape(-1), minlength=len(found)) > 0
        book = found[used]
        if not book.any():
            return None
        levels = (np.cumsum(used) - 1 - _origin(book)).astype(np.int32)[indices]
        return Numbered(levels, _padded(book, min(self.clusters, values.size)))

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
