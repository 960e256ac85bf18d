"""QSGD: levels between 0 and the norm of a bucket, right on average."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
from annotated_types import Ge, Le

from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.lazy import LazySymbols
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import single
from fedcomp.codecs.stochastic import rounded
from fedcomp.coding import quantise
from fedcomp.coding.reader import Reader, little_endian, varint
from fedcomp.errors import BitstreamError
from fedcomp.tensors import Kind, difference_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context, Symbols
    from fedcomp.tensors import Array, Tensors, TensorSpec


class Buckets(NamedTuple):
    """Levels of one tensor, and the norm of each of its buckets."""

    levels: NDArray[np.int32]
    norms: NDArray[np.float32]


@dataclass(frozen=True)
class Qsgd(LevelCodec):
    """‖w‖·sgn(w)·ξ / s for each bucket, ξ being |w| / ‖w‖ · s rounded stochastically.

    Alistarh, Grubic, Li, Tomioka, Vojnovic, "QSGD: Communication-Efficient SGD via Gradient
    Quantization and Encoding", NeurIPS 2017, arXiv:1610.02132.  Unbiased, and in a bucket of n
    weights E‖Q(w) − w‖² ≤ min(n / s², √n / s)·‖w‖².

    Parameters
    ----------
    s
        Number of levels above 0; 7 make 4 bits a weight with the coder `fixed`.
    bucket
        How many consecutive weights share a norm of 32 bits; None is all of a tensor.
    coder
        How the levels −s … s are written.
    """

    name: ClassVar[str] = "qsgd"

    s: Annotated[int, Ge(1), Le(32767)] = 7
    bucket: Annotated[int, Ge(1)] | None = 512
    coder: Coder = "cabac"

    def weight_step(self, context: Context) -> float:  # noqa: ARG002
        """Return 1 / s: levels are shares of a norm."""
        return 1 / self.s

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return Coding(self.coder)

    def levels(self, name: str, values: Array, context: Context) -> Levels:
        """Return levels of shares of the norm."""
        norms = self._spread(self.norms(values), values.shape)
        shares = np.divide(values, norms, out=np.zeros(values.shape), where=norms > 0)
        # The norm of doubles, in float32, may be less than the only value of a bucket.
        quotients = np.clip(shares * self.s, -self.s, self.s)
        return Levels.of(rounded(quotients, context.generator(name)), 1 / self.s)

    def norms(self, values: Array) -> NDArray[np.float32]:
        """Return the norm of each bucket as it travels; 0 where it is next to nothing."""
        single(float(np.abs(values).max()))  # refuses what has no square
        squares = np.square(values.reshape(-1), dtype=np.float64)
        norms = np.sqrt(np.add.reduceat(squares, range(0, values.size, self.bucket or values.size)))
        single(float(norms.max()))
        return np.where(norms < quantise.SMALLEST_STEP, 0, norms).astype(np.float32)

    def quantised(self, name: str, values: Array, context: Context) -> Any:
        """Quantise one tensor as its kind asks."""
        symbol = super().quantised(name, values, context)
        if not (isinstance(symbol, Levels) and _has_norms(context.manifest.by_name[name])):
            return symbol
        norms = self.norms(values) if symbol.step else self._no_norms(values.size)
        return Buckets(symbol.levels, norms)

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the length of the levels, the levels, then the norms of tensors that have some."""
        plain, norms = {}, []
        for spec in context.manifest.specs:
            symbol = symbols.get(spec.name)
            if isinstance(symbol, Buckets):
                plain[spec.name] = Levels.of(symbol.levels, 1 / self.s)
                filled = bool(plain[spec.name].step)
                norms.append(b"\1" + little_endian(symbol.norms) if filled else b"\0")
            elif symbol is not None:
                plain[spec.name] = symbol
        frame = super().pack(plain, context)
        return b"".join((varint(len(frame)), frame, *norms))

    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote; weights are decoded when they are looked up."""
        reader = Reader(data)
        frame = super().lazy(reader.take(reader.varint()), context)
        specs = [context.manifest.by_name[name] for name in frame]
        found = {s.name: self._read_norms(reader, s) for s in specs if _has_norms(s)}
        reader.end()

        def buckets(name: str) -> Buckets:
            levels, step = frame[name]
            norms = found[name]
            if step not in (0, float(np.float32(1 / self.s))) or (step != 0) != norms.any():
                msg = f"tensor {name!r} has levels with step {step} and norms {norms[:8].tolist()}"
                raise BitstreamError(msg)
            if (np.abs(levels) > self.s * (self._spread(norms, levels.shape) > 0)).any():
                msg = f"tensor {name!r} has levels beyond {self.s}, or some in an empty bucket"
                raise BitstreamError(msg)
            return Buckets(levels, norms)

        makers = {
            s.name: partial(buckets if s.name in found else frame.__getitem__, s.name)
            for s in specs
        }
        return LazySymbols(makers, {spec.name: spec.size for spec in specs})

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Return level · norm / s, the rest as all codecs do."""
        out: Tensors = {}
        for name, symbol in symbols.items():
            if not isinstance(symbol, Buckets):
                out |= super().reconstruct({name: symbol}, context)
                continue
            stored = np.dtype(context.manifest.by_name[name].dtype)
            norms = self._spread(symbol.norms, symbol.levels.shape)
            values = np.asarray(symbol.levels * norms / self.s, difference_dtype(stored))
            out[name] = np.clip(values, -65504, 65504) if stored == np.float16 else values
        return out

    def _read_norms(self, reader: Reader, spec: TensorSpec) -> NDArray[np.float32]:
        none = self._no_norms(spec.size)
        flag = reader.uint(1)
        if flag > 1:
            msg = f"the norms of {spec.name!r} start with {flag}; allowed are 0 (none) and 1"
            raise BitstreamError(msg)
        norms = reader.array("float32", none.shape) if flag else none
        usual = (norms >= quantise.SMALLEST_STEP) & (norms < quantise.STEP_BOUND)
        if not (usual | (norms == 0)).all():
            msg = f"tensor {spec.name!r} has norms that no sender would have given"
            raise BitstreamError(msg)
        return norms

    def _no_norms(self, size: int) -> NDArray[np.float32]:
        return np.zeros(-(-size // (self.bucket or size or 1)), np.float32)

    def _spread(self, norms: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the norm of each weight's bucket."""
        size = int(np.prod(shape))
        each = np.repeat(norms.astype(np.float64), min(self.bucket or size, size))
        return each[:size].reshape(shape)


def _has_norms(spec: TensorSpec) -> bool:
    return spec.kind is Kind.WEIGHT and np.dtype(spec.dtype).kind == "f"
