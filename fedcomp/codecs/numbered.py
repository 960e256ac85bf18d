"""Codecs whose weights are integers and a few floats of their own: norms, bounds, a codebook.

Payload: the length of the frame of `levels`, that frame with all tensors that need no such floats;
which tensors follow; their floats; a section of integers for each of them.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedcomp.codecs.arrays import read_presence, write_presence
from fedcomp.codecs.lazy import LazySymbols
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import named
from fedcomp.coding.reader import Reader, little_endian, varint
from fedcomp.errors import BitstreamError
from fedcomp.tensors import LARGEST_HALF, difference_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context, Symbols
    from fedcomp.tensors import Array, Tensors, TensorSpec


class Numbered(NamedTuple):
    """The integers of one weight tensor, and the floats that make weights of them."""

    levels: NDArray[np.int32]
    numbers: NDArray[np.float32]


@dataclass(frozen=True)
class NumberedCodec(LevelCodec):
    """A quantiser of weights whose receiver needs more than a step.

    A tensor that is all zero, or becomes so, is a `Levels` of zeros, as in all codecs of integers;
    so `weight_shape` and what `numbers_of` counts depend on the tensor's spec alone.
    """

    @abstractmethod
    def numbered(self, name: str, values: Array, context: Context) -> Numbered | None:
        """Quantise one weight tensor, finite and not all zero; None makes it one of zeros."""

    @abstractmethod
    def numbers_of(self, spec: TensorSpec) -> int:
        """Return how many floats come with a tensor."""

    @abstractmethod
    def fault(self, symbol: Numbered, spec: TensorSpec) -> str:
        """Say why no sender can have written this, or nothing; its floats are finite."""

    @abstractmethod
    def weights(self, name: str, symbol: Numbered, context: Context) -> Array:
        """Return what a symbol stands for, in the tensor's shape and at least float32."""

    def levels(self, name: str, values: Array, context: Context) -> Levels:  # noqa: ARG002
        """Return zeros; what is not zero has floats of its own."""
        return Levels.zeros(values.shape)

    def quantised(self, name: str, values: Array, context: Context) -> Any:
        """Quantise one tensor as its kind asks."""
        plain = super().quantised(name, values, context)
        hard = context.manifest.by_name[name].is_weight and isinstance(plain, Levels)
        if not hard or not values.any():
            return plain
        with named(name):
            return self.numbered(name, values, context) or plain

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the frame, then the floats and integers of weights."""
        found = {n: s for n, s in symbols.items() if isinstance(s, Numbered)}
        present = [spec.name for spec in context.manifest.specs if spec.name in found]
        frame = super().pack({n: s for n, s in symbols.items() if n not in found}, context)
        return b"".join(
            (
                varint(len(frame)),
                frame,
                write_presence(found, context.manifest),
                *(little_endian(found[name].numbers) for name in present),
                self.coding(context).write({name: found[name].levels for name in present}),
            )
        )

    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote; weights are decoded when they are looked up."""
        reader = Reader(data)
        frame = super().lazy(reader.take(reader.varint()), context)
        specs = [context.manifest.by_name[n] for n in read_presence(reader, context.manifest)]
        for spec in specs:
            if not (spec.is_float and spec.is_weight and spec.size) or spec.name in frame:
                msg = f"tensor {spec.name!r} is no weight, has no element, or is here twice"
                raise BitstreamError(msg)
        numbers = {s.name: reader.array("float32", (self.numbers_of(s),)) for s in specs}
        levels = self.coding(context).sections(
            reader, {spec.name: self.weight_shape(spec) for spec in specs}
        )
        reader.end()

        def symbol(name: str) -> Any:
            if name in frame:
                return self._plain(frame[name], context.manifest.by_name[name])
            found = Numbered(levels[name](), numbers[name])
            fault = (
                self.fault(found, context.manifest.by_name[name])
                if np.isfinite(found.numbers).all()
                else "not all of its floats are finite"
            )
            if fault:
                msg = f"tensor {name!r}: {fault}"
                raise BitstreamError(msg)
            return found

        there = {**dict.fromkeys(frame), **numbers}
        sizes = {spec.name: spec.size for spec in context.manifest.specs if spec.name in there}
        return LazySymbols({name: partial(symbol, name) for name in sizes}, sizes)

    @staticmethod
    def _plain(symbol: Any, spec: TensorSpec) -> Any:
        if spec.is_weight and isinstance(symbol, Levels) and symbol.step:
            msg = f"tensor {spec.name!r} is a weight with a step and without floats of its own"
            raise BitstreamError(msg)
        return symbol

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Return what the floats make of integers; the rest as all codecs of integers do."""
        out: Tensors = {}
        for name, symbol in symbols.items():
            if not isinstance(symbol, Numbered):
                out |= super().reconstruct({name: symbol}, context)
                continue
            stored = np.dtype(context.manifest.by_name[name].dtype)
            values = self.weights(name, symbol, context)
            out[name] = np.asarray(values, difference_dtype(stored))
            if stored == np.float16:
                out[name] = np.clip(out[name], -LARGEST_HALF, LARGEST_HALF)
        return out
