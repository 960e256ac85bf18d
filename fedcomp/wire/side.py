"""Side information: small named arrays that a method sends beside the tensors.

count (1), then for each: name length (1), name, type (1), rank (1), extents (4 each), values
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fedcomp.coding.reader import Reader, little_endian
from fedcomp.errors import BitstreamError, CodecError

if TYPE_CHECKING:
    from fedcomp.tensors import Tensors

TYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64")
_MAX_RANK = 8
_MAX_EMPTY = 1 << 24
"""Elements that an array without values would have if its sides of 0 were 1."""


def write_side(arrays: Tensors) -> bytes:
    """Return the arrays as bytes; nothing at all for no arrays.

    Examples
    --------
    >>> import numpy as np
    >>> data = write_side({"gram": np.ones((2, 2), np.float16)})
    >>> len(data), read_side(data)["gram"].shape
    (24, (2, 2))
    """
    if not arrays:
        return b""
    if len(arrays) > 255:
        msg = f"side information holds at most 255 arrays, {len(arrays)} were given"
        raise CodecError(msg)
    parts = [len(arrays).to_bytes(1, "little")]
    for name, value in arrays.items():
        label = name.encode()
        known = str(value.dtype) in TYPES and value.ndim <= _MAX_RANK
        if not 0 < len(label) <= 255 or not known or not _is_modest(value.shape):
            msg = (
                f"side array {name!r} of shape {value.shape} and type {value.dtype} cannot travel;"
                f" allowed: a name of 1 to 255 bytes, at most {_MAX_RANK} dimensions (beside one of"
                f" 0 the others span at most {_MAX_EMPTY} elements) and one of {', '.join(TYPES)}"
            )
            raise CodecError(msg)
        parts.append(bytes((len(label),)) + label)
        parts.append(bytes((TYPES.index(str(value.dtype)), value.ndim)))
        parts += [extent.to_bytes(4, "little") for extent in value.shape]
        parts.append(little_endian(value))
    return b"".join(parts)


def read_side(data: bytes) -> Tensors:
    """Read what `write_side` wrote; never allocates more than the bytes that are there."""
    arrays: Tensors = {}
    if not data:
        return arrays
    reader = Reader(data)
    count = reader.uint(1)
    if not count:
        msg = "side information of no arrays takes no byte at all"
        raise BitstreamError(msg)
    for _ in range(count):
        try:
            name = str(reader.take(reader.uint(1)), "utf-8")
        except UnicodeDecodeError as error:
            msg = f"the name of a side array is not UTF-8: {error}"
            raise BitstreamError(msg) from error
        code, rank = reader.uint(1), reader.uint(1)
        if code >= len(TYPES) or rank > _MAX_RANK or not name or name in arrays:
            msg = f"side array {name!r} (type {code}, rank {rank}) is not one that can be written"
            raise BitstreamError(msg)
        shape = tuple(reader.uint(4) for _ in range(rank))
        if not _is_modest(shape):
            msg = f"side array {name!r} claims the shape {shape} without having values"
            raise BitstreamError(msg)
        arrays[name] = reader.array(TYPES[code], shape)
    reader.end()
    return arrays


def _is_modest(shape: tuple[int, ...]) -> bool:
    """Tell whether no side is claimed for nothing: beside a side of 0 no values stand for it."""
    return 0 not in shape or math.prod(max(side, 1) for side in shape) <= _MAX_EMPTY
