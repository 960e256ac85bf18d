"""No compression: every value as it is, the reference that all codecs are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp.codecs.base import Codec, Context, Mode, Symbols, read_presence, write_presence
from fedcomp.coding.reader import Reader, little_endian

if TYPE_CHECKING:
    from fedcomp.tensors import Tensors


@dataclass(frozen=True)
class NoCompression(Codec):
    """Exact values in the model's own dtypes; also the form of every keyframe.

    Only whole models travel this way: a float32 difference added to its base would not give
    back the model to the last bit.
    """

    name: ClassVar[str] = "none"
    modes: ClassVar[tuple[Mode, ...]] = ("absolute",)

    mode: Mode = "absolute"

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Return the tensors themselves."""
        context.manifest.check(tensors)
        return dict(tensors)

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the present tensors one after the other in model order."""
        parts = [write_presence(symbols, context.manifest)]
        parts += [
            little_endian(symbols[s.name]) for s in context.manifest.specs if s.name in symbols
        ]
        return b"".join(parts)

    def unpack(self, data: bytes | memoryview, context: Context) -> Symbols:
        """Read what `pack` wrote; shapes and dtypes come from the manifest."""
        reader = Reader(data)
        symbols: Symbols = {}
        for name in read_presence(reader, context.manifest):
            spec = context.manifest.by_name[name]
            symbols[name] = reader.array(spec.dtype, spec.shape)
        reader.end()
        return symbols

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:  # noqa: ARG002
        """Return the tensors themselves."""
        return dict(symbols)
