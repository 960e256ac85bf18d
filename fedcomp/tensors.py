"""Named arrays, what both ends know of them, and the arithmetic of differences."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from fedcomp.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Tensors: TypeAlias = dict[str, Array]
T = TypeVar("T")

LARGEST_HALF = float(np.finfo(np.float16).max)
"""What a float16 holds at most."""

VERSION_BYTES = 6
"""How much of a model's hash names a version on the wire."""


class Kind(StrEnum):
    """The part a tensor plays in a model; codecs treat kinds differently."""

    WEIGHT = "weight"
    BIAS = "bias"
    NORM = "norm"
    SCALE = "scale"
    BUFFER = "buffer"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, shape, dtype and kind of one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: Kind

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_float(self) -> bool:
        """Whether codecs may quantise the tensor; integers are sent exactly."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def is_weight(self) -> bool:
        """Whether the tensor is one of weights, which codecs treat hard."""
        return self.kind is Kind.WEIGHT

    @property
    def is_parameter(self) -> bool:
        """Whether training changes the tensor by adding to it: buffers and counters it replaces."""
        return self.kind not in (Kind.BUFFER, Kind.COUNTER)


@dataclass(frozen=True)
class Manifest:
    """What both ends of a link know of a model before the first packet.

    Examples
    --------
    >>> m = Manifest((TensorSpec("w", (2, 3), "float32", Kind.WEIGHT),))
    >>> m.elements, m.digest.hex()[:8]
    (6, '068a4431')
    """

    specs: tuple[TensorSpec, ...]

    @cached_property
    def by_name(self) -> Mapping[str, TensorSpec]:
        """The specs by tensor name, in model order."""
        return {spec.name: spec for spec in self.specs}

    @cached_property
    def weights(self) -> tuple[TensorSpec, ...]:
        """The specs of weights, in model order."""
        return tuple(spec for spec in self.specs if spec.is_weight)

    @cached_property
    def elements(self) -> int:
        """Number of values in the model, buffers included."""
        return sum(spec.size for spec in self.specs)

    @cached_property
    def parameters(self) -> int:
        """Number of values of parameters."""
        return sum(spec.size for spec in self.specs if spec.is_parameter)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all names, shapes, dtypes and kinds."""
        lines = [f"{s.name}|{s.shape}|{s.dtype}|{s.kind}" for s in self.specs]
        return hashlib.sha256("\n".join(lines).encode()).digest()

    def check(self, tensors: Tensors) -> None:
        """Raise `CodecError` unless every tensor given is one of this model's."""
        for name, value in tensors.items():
            spec = self.by_name.get(name)
            if spec is None:
                msg = f"tensor {name!r} is not part of the model ({len(self.specs)} tensors)"
                raise CodecError(msg)
            if value.shape != spec.shape:
                msg = f"tensor {name!r} has shape {value.shape}, the model has {spec.shape}"
                raise CodecError(msg)


def contiguous(value: Array) -> Array:
    """Return `value` in C order, 0-d arrays left as they are."""
    return np.asarray(value, order="C")


def below(prefix: str, arrays: Mapping[str, T]) -> dict[str, T]:
    """Return what has a prefix, without it.

    Examples
    --------
    >>> below("a/", {"a/b": 1, "b": 2})
    {'b': 1}
    """
    return {n.removeprefix(prefix): v for n, v in arrays.items() if n.startswith(prefix)}


def read_only(tensors: Tensors) -> Tensors:
    """Return views that cannot be written to."""
    views = {name: value.view() for name, value in tensors.items()}
    for view in views.values():
        view.flags.writeable = False
    return views


def full_digest(tensors: Tensors) -> bytes:
    """Return the SHA-256 of a model state: all bytes, by tensor name."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(contiguous(value).reshape(-1).view(np.uint8).data)
    return digest.digest()


def version_of(tensors: Tensors) -> bytes:
    """Name a model state by its content: a prefix of its digest."""
    return full_digest(tensors)[:VERSION_BYTES]


def difference_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which differences of `dtype` are formed."""
    if dtype.kind == "f":
        return np.dtype(np.float64) if dtype.itemsize > 4 else np.dtype(np.float32)
    return np.dtype(np.int64)


def subtract(new: Tensors, old: Tensors) -> Tensors:
    """Return new − old: floats in at least float32, integers exactly (modulo 2^64)."""
    out: Tensors = {}
    for name, value in new.items():
        wide = difference_dtype(value.dtype)
        out[name] = np.asarray(np.subtract(value.astype(wide), old[name].astype(wide)))
    return out


def add(model: Tensors, change: Tensors) -> Tensors:
    """Return model + change in the model's own dtypes; tensors without a change are shared."""
    out: Tensors = {}
    for name, value in model.items():
        if name not in change:
            out[name] = value
            continue
        wide = difference_dtype(value.dtype)
        total = np.asarray(np.add(value.astype(wide), change[name].astype(wide)))
        out[name] = narrowed(total, value.dtype)
    return out


def narrowed(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return values in a type; what a smaller float cannot hold becomes its largest.

    Examples
    --------
    >>> narrowed(np.array([1e6, -3.0]), np.dtype(np.float16)).tolist()
    [65504.0, -3.0]
    """
    if dtype.kind == "f" and dtype.itemsize < values.dtype.itemsize:
        most = np.finfo(dtype).max
        values = np.where(np.isinf(values), values, np.clip(values, -most, most))
    return np.asarray(values).astype(dtype, copy=False)
