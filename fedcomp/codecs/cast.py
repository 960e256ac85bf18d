"""Half precision: the cheapest lossy codec, and the first baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from fedcomp.codecs.arrays import exact, exact_dtype, finite, lazy_arrays, pack_arrays
from fedcomp.codecs.base import About, Context, LazyCodec, Mode, Symbols
from fedcomp.tensors import LARGEST_HALF, Array, TensorSpec, difference_dtype

if TYPE_CHECKING:
    from fedcomp.codecs.lazy import LazySymbols
    from fedcomp.tensors import Tensors


@dataclass(frozen=True)
class Cast(LazyCodec):
    """Round every float to 16 bits, ties to even; integers travel exactly.

    `fp16` has 11 significant bits and reaches 65504 (larger values are clipped to it, so that a
    rare outlier does not become infinite); `bf16` has 8 significant bits and float32's range.
    """

    name: ClassVar[str] = "cast"
    modes: ClassVar[tuple[Mode, ...]] = ("delta", "absolute")
    about: ClassVar[About] = About(
        paper="IEEE 754 half precision; bfloat16",
        formula="w rounded to 11 (fp16) or 8 (bf16) significant bits",
        bias="biased",
        cost="O(n)",
    )

    mode: Mode = "delta"
    dtype: Literal["fp16", "bf16"] = "fp16"

    @property
    def keeps_zeros(self) -> bool:
        """In mode absolute, where a zero is sent as one."""
        return self.mode == "absolute"

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Return uint16 patterns for floats, the values themselves for integers."""
        context.manifest.check(tensors)
        return {
            name: self._round(name, np.atleast_1d(value)).reshape(value.shape)
            if context.manifest.by_name[name].is_float
            else exact(value, context.manifest.by_name[name], self.mode)
            for name, value in tensors.items()
        }

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the values of the present tensors."""
        return pack_arrays(symbols, context.manifest)

    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote."""
        return lazy_arrays(data, context.manifest, self._symbol_dtype)

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Return floats of the difference type of each tensor, integers as they were sent."""
        out: Tensors = {}
        for name, value in symbols.items():
            stored = np.dtype(context.manifest.by_name[name].dtype)
            if stored.kind != "f":
                out[name] = value
            elif self.dtype == "fp16":
                out[name] = value.view(np.float16).astype(difference_dtype(stored))
            else:
                wide = value.astype(np.uint32) << np.uint32(16)
                with np.errstate(invalid="ignore"):  # hostile bytes may spell a signalling NaN
                    out[name] = wide.view(np.float32).astype(difference_dtype(stored))
        return out

    def _symbol_dtype(self, spec: TensorSpec) -> np.dtype[np.generic]:
        return np.dtype(np.uint16) if spec.is_float else exact_dtype(spec, self.mode)

    def _round(self, name: str, value: Array) -> Array:
        with np.errstate(over="ignore"):  # infinities are clipped like all that is too large
            single = finite(name, value).astype(np.float32)
        if self.dtype == "fp16":
            return np.clip(single, -LARGEST_HALF, LARGEST_HALF).astype(np.float16).view(np.uint16)
        bits = single.view(np.uint32)
        even = (bits >> np.uint32(16)) & np.uint32(1)
        rounded = (bits + np.uint32(0x7FFF) + even) >> np.uint32(16)
        largest = np.uint32(0x7F7F) | (rounded & np.uint32(0x8000))
        overflow = (rounded & np.uint32(0x7F80)) == np.uint32(0x7F80)
        return np.where(overflow, largest, rounded).astype(np.uint16)
