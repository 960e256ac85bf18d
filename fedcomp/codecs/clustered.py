"""Models whose layers have few different weights: a codebook each, and who has which of it.

    w_i = c_{a_i},  l_i = a_i − p_i,  p_i = argmin_k |r_i − c_k|

r is what the receiver holds: training moves most weights by no more than a cluster, so that most l
are 0.  Without r, p is the centroid nearest to 0.

Payload: the length of what `cast` or `none` makes of all other tensors, and that; which tensors are
clustered; for each of them the size of its codebook, less one; codebooks; a section of l each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from fedcomp.codecs.arrays import finite, read_presence, write_presence
from fedcomp.codecs.base import About, Codec, Context, LazyCodec, Mode, Symbols
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.clusters import nearest
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.lazy import LazySymbols, each
from fedcomp.codecs.none import NoCompression
from fedcomp.coding.reader import Reader, little_endian, varint
from fedcomp.errors import BitstreamError
from fedcomp.tensors import difference_dtype, full_digest, narrowed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.tensors import Array, Manifest, Tensors, TensorSpec

MOST = 256
"""Different values of a tensor that counts as clustered."""


class Clusters(NamedTuple):
    """Ascending centroids of a weight tensor, and which one each weight has."""

    book: NDArray[np.float32]
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class Clustered(LazyCodec):
    """Codebook and indices of each weight tensor with few different values, exactly.

    Han, Mao and Dally, "Deep Compression", ICLR 2016, arXiv:1510.00149; FedCompress, which trains
    such models, writes float32 values in a file that Deflate makes smaller (arXiv:2401.14211).

    Parameters
    ----------
    others
        How all other floats travel: as float32 they are exact.
    predict
        Count indices from those of the nearest centroids to what the receiver holds; on the
        downlink for clients that hold the version before.
    coder
        How indices are written.
    """

    name: ClassVar[str] = "clustered"
    modes: ClassVar[tuple[Mode, ...]] = ("absolute",)
    about: ClassVar[About] = About(
        paper="Han et al., ICLR 2016, arXiv:1510.00149",
        formula="w of at most 256 values a tensor, as codebook and indices; others by `cast`",
        bias="exact where clustered",
        cost="O(n log n)",
    )

    mode: Mode = "absolute"
    others: Literal["fp16", "bf16", "fp32"] = "fp16"
    predict: bool = True
    coder: Coder = "cabac"

    @property
    def keeps_zeros(self) -> bool:
        """Always: exactly, or as 16 bits."""
        return True

    @cached_property
    def _rest(self) -> Codec:
        if self.others == "fp32":
            return NoCompression()
        return Cast(mode="absolute", dtype=self.others)

    def anchor(self, model: Tensors, manifest: Manifest) -> bytes:
        """Return a hash of all weights, from which indices are predicted."""
        if not self.predict:
            return b""
        return full_digest({s.name: model[s.name] for s in manifest.specs if _may_cluster(s)})

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Return clusters where there are some, what `others` asks for the rest."""
        context.manifest.check(tensors)
        specs = context.manifest.by_name

        def clusters(name: str) -> Clusters | None:
            return _clusters(finite(name, tensors[name])) if _may_cluster(specs[name]) else None

        made = each(clusters, list(tensors), [value.size for value in tensors.values()])
        found = {n: c for n, c in zip(tensors, made, strict=True) if c is not None}
        rest = {name: value for name, value in tensors.items() if name not in found}
        coarse = self._rest.quantise(rest, context)
        return {name: found[name] if name in found else coarse[name] for name in tensors}

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the rest, then codebooks and indices."""
        specs = context.manifest.by_name
        found = {s: symbols[s] for s in specs if isinstance(symbols.get(s), Clusters)}
        rest = self._rest.pack({n: s for n, s in symbols.items() if n not in found}, context)
        levels = {
            name: (symbol.indices - self._predicted(specs[name], symbol.book, context)).astype(
                np.int32
            )
            for name, symbol in found.items()
        }
        return b"".join(
            (
                varint(len(rest)),
                rest,
                write_presence(found, context.manifest),
                bytes(len(symbol.book) - 1 for symbol in found.values()),
                *(little_endian(symbol.book) for symbol in found.values()),
                Coding(self.coder).write(levels),
            )
        )

    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote; indices are decoded when they are looked up."""
        reader = Reader(data)
        specs = context.manifest.by_name
        rest = self._rest.lazy(reader.take(reader.varint()), context)
        names = read_presence(reader, context.manifest)
        strange = [name for name in names if not _may_cluster(specs[name]) or name in rest]
        if strange:
            msg = f"tensor {strange[0]!r} cannot be clustered, or is here twice"
            raise BitstreamError(msg)
        sizes = bytes(reader.take(len(names)))
        books = {
            name: _checked(name, reader.array("float32", (size + 1,)), specs[name])
            for name, size in zip(names, sizes, strict=True)
        }
        levels = Coding(self.coder).sections(reader, {name: specs[name].shape for name in names})
        reader.end()

        def symbol(name: str) -> Any:
            if name in rest:
                return rest[name]
            book = books[name]
            indices = levels[name]() + self._predicted(specs[name], book, context)
            inside = indices.min() >= 0 and indices.max() < len(book)
            if not inside or not np.bincount(indices.reshape(-1), minlength=len(book)).all():
                msg = f"tensor {name!r} has indices outside its codebook, or does not use all of it"
                raise BitstreamError(msg)
            return Clusters(book, indices)

        there = [name for name in specs if name in rest or name in books]
        makers = {name: partial(symbol, name) for name in there}
        return LazySymbols(makers, {name: specs[name].size for name in there})

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Return the centroid of each weight; the rest as `others` left it."""
        rest = {name: s for name, s in symbols.items() if not isinstance(s, Clusters)}
        out = self._rest.reconstruct(rest, context)
        for name, symbol in symbols.items():
            if isinstance(symbol, Clusters):
                stored = np.dtype(context.manifest.by_name[name].dtype)
                out[name] = symbol.book[symbol.indices].astype(difference_dtype(stored))
        return {name: out[name] for name in symbols}

    def _predicted(
        self, spec: TensorSpec, book: NDArray[np.float32], context: Context
    ) -> NDArray[np.int64]:
        """Return for each weight the index that is likely."""
        held = (context.reference or {}).get(spec.name) if self.predict else None
        return nearest(np.zeros((1,) * len(spec.shape)) if held is None else held, book)


def _may_cluster(spec: TensorSpec) -> bool:
    """Tell whether a tensor is one of weights, and of a type that may have few different values."""
    return spec.is_float and spec.is_weight and spec.size > 1


def _clusters(values: Array) -> Clusters | None:
    """Return the clusters of a tensor unless its codebook alone would be half of it."""
    few = min(MOST, values.size // 2)
    if len(np.unique(values.reshape(-1)[: 2 * MOST])) > few:
        return None
    book = np.unique(values)
    with np.errstate(over="ignore"):  # of float64
        single = book.astype(np.float32) + np.float32(0)  # no −0
    if len(book) > few or not np.array_equal(single, book):
        return None
    indices = nearest(values, single)
    if not np.array_equal(single[indices], values):  # between neighbours of float there is nothing
        indices = np.searchsorted(book, values)
    return Clusters(single, indices)


def _checked(name: str, book: NDArray[np.float32], spec: TensorSpec) -> NDArray[np.float32]:
    """Return a codebook that a sender may have written."""
    ascending = bool(np.isfinite(book).all() and (book[1:] > book[:-1]).all())
    fits = ascending and np.array_equal(narrowed(book, np.dtype(spec.dtype)), book)
    if not fits or 2 * len(book) > spec.size or np.signbit(book[book == 0]).any():
        msg = f"tensor {name!r} has a codebook such as {book[:8].tolist()} that nobody writes"
        raise BitstreamError(msg)
    return book
