"""No compression: every value as it is, the reference that all codecs are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.codecs.arrays import exact, lazy_arrays, pack_arrays
from fedcomp.codecs.base import About, Context, LazyCodec, Mode, Symbols

if TYPE_CHECKING:
    from fedcomp.codecs.lazy import LazySymbols
    from fedcomp.tensors import Tensors


@dataclass(frozen=True)
class NoCompression(LazyCodec):
    """Exact values in the model's own dtypes; also the form of every keyframe.

    Only whole models travel this way: a float32 difference added to its base would not give
    back the model to the last bit.
    """

    name: ClassVar[str] = "none"
    modes: ClassVar[tuple[Mode, ...]] = ("absolute",)
    about: ClassVar[About] = About(
        paper="none: the reference of all others",
        formula="w",
        bias="exact",
        cost="none",
    )

    mode: Mode = "absolute"

    @property
    def keeps_zeros(self) -> bool:
        """Always: nothing changes."""
        return True

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Return the tensors themselves."""
        context.manifest.check(tensors)
        specs = context.manifest.by_name
        return {name: exact(value, specs[name], self.mode) for name, value in tensors.items()}

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the values of the present tensors."""
        return pack_arrays(symbols, context.manifest)

    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote."""
        return lazy_arrays(data, context.manifest, lambda spec: np.dtype(spec.dtype))

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:  # noqa: ARG002
        """Return the tensors themselves."""
        return dict(symbols)
