"""The frame of all codecs that turn weights into integers: levels times a step.

    weights            levels of the codec's own quantiser, each tensor coded by itself
    other floats       uniform levels at a fine step, coded together
    integers           exactly

Payload: which tensors are there; which of them are all zero; steps, where both ends do not know
them already; integers (Deflate); fine levels; a section for each weight.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from fedcomp.codecs.arrays import exact, exact_dtype, finite, read_presence, write_presence
from fedcomp.codecs.base import Context, LazyCodec, Mode, Symbols
from fedcomp.codecs.coders import Coding
from fedcomp.codecs.lazy import LazySymbols
from fedcomp.codecs.steps import Step, named, single
from fedcomp.coding import quantise
from fedcomp.coding.reader import Reader, little_endian, varint
from fedcomp.errors import BitstreamError, CodecError
from fedcomp.tensors import LARGEST_HALF, Kind, TensorSpec, difference_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from fedcomp.tensors import Array, Tensors

FINE_STEP = quantise.step_from_qp(-75)


class Levels(NamedTuple):
    """Integers and their step; a tensor of zeros has step 0."""

    levels: NDArray[np.int32]
    step: float

    @classmethod
    def of(cls, levels: NDArray[np.int32], step: float) -> Levels:
        """Return levels with their step as it travels, in float32."""
        return cls(levels, float(np.float32(step)) if levels.any() else 0.0)

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> Levels:
        """Return a tensor of zeros."""
        return cls(np.zeros(shape, np.int32), 0.0)

    def check(self, name: str) -> None:
        """Raise unless these can be packed and come back as they are."""
        if (self.step != 0) != self.levels.any() or self.step != float(np.float32(self.step)):
            msg = (
                f"tensor {name!r} has levels with step {self.step}; it must be a float32, and 0"
                " for a tensor of zeros only (see Levels.of)"
            )
            raise CodecError(msg)


@dataclass(frozen=True)
class LevelCodec(LazyCodec):
    """A quantiser of weights and a coder; the rest is the same for all of them.

    Parameters
    ----------
    fine_step
        Step of biases, norms and scales; larger where a value would leave int32.  Of buffers it is
        2.38e-6 at most.
    """

    modes: ClassVar[tuple[Mode, ...]] = ("delta", "absolute")

    mode: Mode = "delta"
    fine_step: Step = FINE_STEP

    @abstractmethod
    def levels(self, name: str, values: Array, context: Context) -> Levels:
        """Quantise one weight tensor, finite and not all zero."""

    @abstractmethod
    def coding(self, context: Context) -> Coding:
        """Return how the weights' levels are written."""

    def expected(
        self,
        spec: TensorSpec,  # noqa: ARG002
        step: float,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> NDArray[np.int32] | None:
        """Return levels that both ends expect of a float tensor; those written count from them."""
        return None

    def weight_step(self, context: Context) -> float:  # noqa: ARG002
        """Return the step of weights that both ends know beforehand, or 0."""
        return 0.0

    def treats_hard(self, spec: TensorSpec) -> bool:
        """Tell whether `levels` quantises a float tensor; others go at the fine step."""
        return spec.is_weight

    def weight_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """Return the shape of the levels of a weight tensor that is not all zero."""
        return spec.shape

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Return `Levels` for floats, the values themselves for integers."""
        context.manifest.check(tensors)
        return {name: self.quantised(name, value, context) for name, value in tensors.items()}

    def quantised(self, name: str, values: Array, context: Context) -> Array | Levels:
        """Quantise one tensor as its kind asks."""
        spec = context.manifest.by_name[name]
        if not spec.is_float:
            return exact(values, spec, self.mode)
        largest = float(np.abs(finite(name, values)).max(initial=0))
        if not largest:
            return Levels.zeros(values.shape)
        with named(name):
            if self.treats_hard(spec):
                return self.levels(name, values, context)
            step = single(max(self._known_step(spec, context), largest / 2**30))
            return Levels.of(quantise.uniform(values, step), step)

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the levels of the present tensors."""
        coding = self.coding(context)
        specs = [spec for spec in context.manifest.specs if spec.name in symbols]
        whole = b"".join(little_endian(symbols[s.name]) for s in specs if not s.is_float)
        floats = [spec for spec in specs if spec.is_float]
        for spec in floats:
            symbols[spec.name].check(spec.name)
        filled = np.array([symbols[s.name].step != 0 for s in floats], bool)
        present = [spec for spec, full in zip(floats, filled, strict=True) if full]
        steps = np.array([symbols[s.name].step for s in present], np.float32)

        def written(spec: TensorSpec) -> NDArray[np.int32]:
            symbol: Levels = symbols[spec.name]
            expected = self.expected(spec, symbol.step, context)
            return symbol.levels if expected is None else symbol.levels - expected

        fine = [written(spec).reshape(-1) for spec in present if not self.treats_hard(spec)]
        weights = {spec.name: written(spec) for spec in present if self.treats_hard(spec)}
        packed = zlib.compress(whole, 9) if whole else b""
        return b"".join(
            (
                write_presence(symbols, context.manifest),
                np.packbits(filled).tobytes(),
                self.write_steps(present, steps, context),
                varint(len(packed)) + packed if whole else b"",
                _fine(coding).write({"": np.concatenate(fine)}) if fine else b"",
                coding.write(weights),
            )
        )

    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote; weights are decoded when they are looked up."""
        reader = Reader(data)
        coding = self.coding(context)
        specs = [context.manifest.by_name[n] for n in read_presence(reader, context.manifest)]
        floats = [spec for spec in specs if spec.is_float]
        present = _read_filled(reader, floats)
        steps = self.read_steps(reader, present, context)
        whole = _read_exact(reader, [s for s in specs if not s.is_float], self.mode)
        levels: dict[str, Callable[[], NDArray[np.int32]]] = {}
        fine = [spec for spec in present if not self.treats_hard(spec)]
        if fine:
            sizes = [spec.size for spec in fine]
            flat = _fine(coding).sections(reader, {"": (sum(sizes),)})[""]()
            for spec, part in zip(fine, np.split(flat, np.cumsum(sizes)[:-1]), strict=True):
                levels[spec.name] = partial(part.reshape, spec.shape)
        shapes = {s.name: self.weight_shape(s) for s in present if self.treats_hard(s)}
        levels |= coding.sections(reader, shapes)
        reader.end()
        known = dict(zip((spec.name for spec in present), steps, strict=True))

        def symbol(spec: TensorSpec) -> Array | Levels:
            if spec.name in whole:
                return whole[spec.name]
            if spec.name not in known:
                return Levels.zeros(spec.shape)
            found, step = levels[spec.name](), known[spec.name]
            expected = self.expected(spec, step, context)
            if expected is not None:
                found = _sum(found, expected, spec)
            if not found.any():
                msg = f"tensor {spec.name!r} is announced with values and has none"
                raise BitstreamError(msg)
            return Levels(found, step)

        makers = {spec.name: partial(symbol, spec) for spec in specs}
        return LazySymbols(makers, {spec.name: spec.size for spec in specs})

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Return level · step, integers as they were sent."""
        out: Tensors = {}
        for name, symbol in symbols.items():
            if not isinstance(symbol, Levels):
                out[name] = symbol
                continue
            stored = np.dtype(context.manifest.by_name[name].dtype)
            dtype = difference_dtype(stored)
            if symbol.step == 0:
                out[name] = np.zeros(symbol.levels.shape, dtype)
            elif dtype == np.float32:
                out[name] = quantise.dequantise(symbol.levels, symbol.step)
            else:
                out[name] = np.asarray(symbol.levels * np.float64(symbol.step))
            if stored == np.float16:
                out[name] = np.clip(out[name], -LARGEST_HALF, LARGEST_HALF)
        return out

    def _known_step(self, spec: TensorSpec, context: Context) -> float:
        if self.treats_hard(spec):
            return self.weight_step(context)
        if spec.kind is Kind.BUFFER:  # feedback does not carry what statistics lose
            return min(self.fine_step, FINE_STEP)
        return self.fine_step

    def write_steps(
        self, present: list[TensorSpec], steps: NDArray[np.float32], context: Context
    ) -> bytes:
        """Return the steps as bytes, unless both ends know them."""
        known = np.array([self._known_step(s, context) for s in present], np.float32)
        return b"\0" if np.array_equal(steps, known) else b"\1" + little_endian(steps)

    def read_steps(
        self, reader: Reader, present: list[TensorSpec], context: Context
    ) -> list[float]:
        """Return the step of each tensor, as `write_steps` wrote them."""
        known = np.array([self._known_step(s, context) for s in present], np.float32)
        flag = reader.uint(1)
        if flag > 1:
            msg = f"the steps start with {flag}; allowed are 0 (known to both ends) and 1 (given)"
            raise BitstreamError(msg)
        steps = reader.array("float32", (len(present),)) if flag else known
        allowed = (steps >= quantise.SMALLEST_STEP) & (steps < quantise.STEP_BOUND)
        if not allowed.all() or (flag and np.array_equal(steps, known)):
            msg = f"the steps {steps[:8].tolist()} are none that a sender would have given"
            raise BitstreamError(msg)
        return [float(step) for step in steps]


def _fine(coding: Coding) -> Coding:
    """Return the coding of fine levels, whose values hardly repeat: no table of them pays."""
    return Coding("golomb" if coding.coder == "huffman" else coding.coder)


def _sum(
    found: NDArray[np.int32], expected: NDArray[np.int32], spec: TensorSpec
) -> NDArray[np.int32]:
    """Return levels that were written as differences."""
    total = found.astype(np.int64) + expected
    if np.abs(total).max(initial=0) > np.iinfo(np.int32).max:
        msg = f"tensor {spec.name!r} has levels beyond those of 32 bits"
        raise BitstreamError(msg)
    return total.astype(np.int32)


def _read_filled(reader: Reader, floats: list[TensorSpec]) -> list[TensorSpec]:
    """Return the tensors that are not all zero."""
    raw = np.frombuffer(reader.take((len(floats) + 7) // 8), np.uint8)
    bits = np.unpackbits(raw)
    if bits[len(floats) :].any():
        msg = "the bit map of tensors with values names more of them than there are"
        raise BitstreamError(msg)
    return [spec for spec, bit in zip(floats, bits, strict=False) if bit]


def _read_exact(reader: Reader, specs: list[TensorSpec], mode: Mode) -> Tensors:
    """Return the integer tensors."""
    types = [exact_dtype(spec, mode) for spec in specs]
    size = sum(spec.size * dtype.itemsize for spec, dtype in zip(specs, types, strict=True))
    if not size:
        return {s.name: np.empty(s.shape, t) for s, t in zip(specs, types, strict=True)}
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(reader.take(reader.varint()), size + 1)
    except zlib.error as error:
        msg = f"the integers are no Deflate data: {error}"
        raise BitstreamError(msg) from error
    if len(raw) != size or not inflater.eof or inflater.unused_data:
        msg = f"the integers do not end after {size} bytes"
        raise BitstreamError(msg)
    inner = Reader(raw)
    return {s.name: inner.array(t, s.shape) for s, t in zip(specs, types, strict=True)}
