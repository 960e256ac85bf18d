"""Lossless compression: every value as it is, in fewer bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from fedcomp.codecs.arrays import exact, read_presence, write_presence
from fedcomp.codecs.base import About, Context, LazyCodec, Mode, Symbols
from fedcomp.codecs.lazy import LazySymbols, each
from fedcomp.coding import zstd
from fedcomp.coding.reader import Reader, little_endian, varint
from fedcomp.errors import BitstreamError
from fedcomp.tensors import full_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.tensors import Array, Manifest, Tensors, TensorSpec


@dataclass(frozen=True)
class Lossless(LazyCodec):
    """zstd(shuffle(w ⊕ r)) for each tensor, r being what the receiver holds.

    Alted, "Why Modern CPUs Are Starving and What Can Be Done about It", Computing in Science and
    Engineering 2010, for the shuffled bytes; RFC 8878 for zstd.  Only whole models travel: a
    float32 difference added to its base would not give back the model to the last bit.

    Parameters
    ----------
    level
        Of zstd.
    xor
        ⊕ r, which makes most of a sign, an exponent and the first bits behind it zero; on the
        downlink for clients that hold the version before.
    """

    name: ClassVar[str] = "lossless"
    modes: ClassVar[tuple[Mode, ...]] = ("absolute",)
    about: ClassVar[About] = About(
        paper="Alted, Computing in Science and Engineering 2010; RFC 8878",
        formula="w, as zstd(shuffle(w ⊕ r)), r what the receiver holds",
        bias="exact",
        cost="O(n)",
    )

    mode: Mode = "absolute"
    level: Annotated[int, Ge(zstd.LEVELS.start), Le(zstd.LEVELS.stop - 1)] = 3
    xor: bool = True

    @property
    def keeps_zeros(self) -> bool:
        """Always: nothing changes."""
        return True

    def anchor(self, model: Tensors, manifest: Manifest) -> bytes:  # noqa: ARG002
        """Return a hash of the whole model, which ⊕ takes."""
        return full_digest(model) if self.xor else b""

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Return the tensors themselves."""
        context.manifest.check(tensors)
        specs = context.manifest.by_name
        return {name: exact(value, specs[name], self.mode) for name, value in tensors.items()}

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write a section for each tensor: its length, then a frame, or bytes it cannot shorten."""
        specs = [spec for spec in context.manifest.specs if spec.name in symbols]

        def section(spec: TensorSpec) -> bytes:
            return self._shortened(little_endian(symbols[spec.name]), spec, context)

        sections = each(section, specs, [spec.size for spec in specs])
        head = write_presence(symbols, context.manifest)
        return b"".join([head, *(part for data in sections for part in (varint(len(data)), data))])

    def _shortened(self, raw: bytes, spec: TensorSpec, context: Context) -> bytes:
        import zstandard

        planes = np.frombuffer(raw, np.uint8) ^ self._held(spec, context)
        planes = planes.reshape(-1, np.dtype(spec.dtype).itemsize).T.copy()
        frame = zstandard.ZstdCompressor(level=self.level).compress(planes.reshape(-1).data)
        return min(raw, frame, key=len)

    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote; tensors are decoded when they are looked up."""
        reader = Reader(data)
        specs = [context.manifest.by_name[name] for name in read_presence(reader, context.manifest)]
        sections = {spec.name: reader.take(reader.varint()) for spec in specs}
        reader.end()

        def values(spec: TensorSpec) -> Array:
            dtype = np.dtype(spec.dtype)
            section, size = sections[spec.name], spec.size * dtype.itemsize
            if len(section) > size:
                msg = f"tensor {spec.name!r} of {size} bytes is announced with {len(section)}"
                raise BitstreamError(msg)
            if len(section) == size:
                return Reader(section).array(dtype, spec.shape)
            planes = np.frombuffer(zstd.content(section, size), np.uint8)
            raw = planes.reshape(dtype.itemsize, -1).T.reshape(-1) ^ self._held(spec, context)
            return Reader(raw.tobytes()).array(dtype, spec.shape)

        makers = {spec.name: partial(values, spec) for spec in specs}
        return LazySymbols(makers, {spec.name: spec.size for spec in specs})

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:  # noqa: ARG002
        """Return the tensors themselves."""
        return dict(symbols)

    def _held(self, spec: TensorSpec, context: Context) -> NDArray[np.uint8]:
        """Return the bytes of what the receiver holds of a tensor, or a zero."""
        reference = context.reference or {}
        if not self.xor or spec.name not in reference:
            return np.zeros(1, np.uint8)
        held = little_endian(exact(reference[spec.name], spec, self.mode))
        return np.frombuffer(held, np.uint8)
