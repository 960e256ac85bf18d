"""Symbols that are arrays: which tensors are there, then their values in model order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.codecs.lazy import LazySymbols
from fedcomp.coding.reader import Reader, little_endian
from fedcomp.errors import BitstreamError, CodecError
from fedcomp.tensors import difference_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.codecs.base import Mode, Symbols
    from fedcomp.tensors import Array, Manifest, TensorSpec


def pack_arrays(symbols: Symbols, manifest: Manifest) -> bytes:
    """Write the present tensors one after the other."""
    present = [spec.name for spec in manifest.specs if spec.name in symbols]
    values = [little_endian(symbols[name]) for name in present]
    return b"".join([write_presence(symbols, manifest), *values])


def lazy_arrays(
    data: bytes | memoryview, manifest: Manifest, dtype: Callable[[TensorSpec], np.dtype[Any]]
) -> LazySymbols:
    """Find what `pack_arrays` wrote; shapes come from the manifest, types from `dtype`."""
    reader = Reader(data)
    specs = [manifest.by_name[name] for name in read_presence(reader, manifest)]
    parts = {spec.name: reader.take(spec.size * dtype(spec).itemsize) for spec in specs}
    reader.end()

    def values(spec: TensorSpec) -> Array:
        return Reader(parts[spec.name]).array(dtype(spec), spec.shape)

    makers = {spec.name: partial(values, spec) for spec in specs}
    return LazySymbols(makers, {spec.name: spec.size for spec in specs})


def write_presence(symbols: Symbols, manifest: Manifest) -> bytes:
    """Say which of the model's tensors follow: one zero byte for all, else 1 and a bit map."""
    present = np.array([spec.name in symbols for spec in manifest.specs], dtype=bool)
    if present.all():
        return b"\0"
    return b"\1" + np.packbits(present).tobytes()


def read_presence(reader: Reader, manifest: Manifest) -> list[str]:
    """Return the names of the tensors that follow, in model order."""
    names = [spec.name for spec in manifest.specs]
    flag = reader.uint(1)
    if flag == 0:
        return names
    if flag != 1:
        msg = f"the tensor list starts with {flag}, allowed are 0 (all) and 1 (bit map)"
        raise BitstreamError(msg)
    raw = np.frombuffer(reader.take((len(names) + 7) // 8), dtype=np.uint8)
    bits = np.unpackbits(raw)
    if bits[len(names) :].any() or bits[: len(names)].all():
        msg = "the bit map of present tensors names tensors that do not exist, or all of them"
        raise BitstreamError(msg)
    return [name for name, bit in zip(names, bits, strict=False) if bit]


def finite(name: str, values: Array) -> Array:
    """Return the values if all of them are finite."""
    if not np.isfinite(values).all():
        msg = f"tensor {name!r} holds values that are not finite; nothing can be sent of it"
        raise CodecError(msg)
    return values


def exact_dtype(spec: TensorSpec, mode: Mode) -> np.dtype[Any]:
    """Return the type in which a tensor, or its difference, travels exactly."""
    stored = np.dtype(spec.dtype)
    return difference_dtype(stored) if mode == "delta" else stored


def exact(values: Array, spec: TensorSpec, mode: Mode) -> Array:
    """Return values in the type in which they travel."""
    wire = np.asarray(values, exact_dtype(spec, mode))
    if wire.dtype != values.dtype and not np.array_equal(wire, values):
        msg = f"tensor {spec.name!r} of {values.dtype} cannot travel as {wire.dtype}"
        raise CodecError(msg)
    return wire
