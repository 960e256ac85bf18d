"""Pickled arrays from anywhere, read so that they run no code and reach none of numpy's.

What numpy does to restore an array trusts the pickle, down to memory.  Here the calls in the pickle
only gather an array's type, shape and bytes, of which it is then made in the ordinary way.
"""

from __future__ import annotations

import pickle
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fedcomp.tensors import Array


def unpickle(stream: IO[bytes], where: Path | str) -> dict[object, object]:
    """Read a dict of numeric arrays and plain values, pickled by Python 2 or 3.

    `DataError` says that what lies at `where` is damaged, or holds anything else.
    """
    try:
        content = _Unpickler(stream, encoding="latin1").load()
        return {
            key: value.array() if isinstance(value, _Array) else value
            for key, value in content.items()
        }
    except Exception as error:  # what damaged bytes raise has no common base
        msg = f"{where}: cannot be read: {error or type(error).__name__}"
        raise DataError(msg) from error


class _Dtype:
    """The arguments of numpy.dtype and the part of its state that says the order of bytes."""

    def __init__(self, kind: str, *_: object) -> None:
        self.kind, self.order = kind, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        dtype = np.dtype(f"{self.order}{self.kind}")
        if dtype.kind not in "biuf":
            msg = f"its arrays hold {dtype}, not numbers"
            raise pickle.UnpicklingError(msg)
        return dtype


class _Array:
    """The state of an array, whatever the arguments of the call that makes it."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> Array:
        _, shape, dtype, columns_first, content = self.state
        values = content.encode("latin1") if isinstance(content, str) else content
        flat: Array = np.frombuffer(values, dtype.dtype())
        return flat.reshape(shape, order="F" if columns_first else "C")


def _from_buffer(content: object, dtype: object, shape: object, order: object) -> _Array:
    made = _Array()
    made.state = 1, shape, dtype, order == "F", content
    return made


def _encode(text: str, *_: object) -> bytes:  # bytes in the protocols before 3, as latin1
    return text.encode("latin1")


_KNOWN: dict[str, Callable[..., object] | None] = {
    "_codecs.encode": _encode,
    "numpy.ndarray": None,  # only ever an argument
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path not in _KNOWN:
            msg = f"it refers to {path}, and only arrays and plain values are read"
            raise pickle.UnpicklingError(msg)
        return _KNOWN[path]
