"""Writing levels ±1 … ±m: quantisers without a level at zero, where zero means exactly zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.codecs.coders import Coding
from fedcomp.coding.reader import Reader
from fedcomp.errors import BitstreamError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class MidriseCoding(Coding):
    """Closes the gap at zero of a tensor without zeros: −m … −1, 1 … m become −m … m − 1.

    Where some are zero, the coder `fixed` gets a bit map of them and the others without a gap; all
    other coders give a level, zero too, the bits that its frequency asks for.

    Examples
    --------
    >>> MidriseCoding("fixed").encode(np.array([1, -1, -2, 2, 1, 1, 1, 1])).hex()
    '0042fec6aa'
    """

    def encode(self, levels: NDArray[Any], base: NDArray[Any] | None = None) -> bytes:
        """Return the bytes of one tensor."""
        there = levels != 0
        if there.all():
            return b"\0" + super().encode(_closed(levels), base)
        if self.coder != "fixed":
            return b"\1" + super().encode(levels, base)
        return b"\1" + np.packbits(there).tobytes() + super().encode(_closed(levels[there]), base)

    def decode(
        self, data: memoryview, shape: tuple[int, ...], base: NDArray[Any] | None = None
    ) -> NDArray[np.int32]:
        """Return the tensor of that shape."""
        reader, size = Reader(data), math.prod(shape)
        flag = reader.uint(1)
        if flag > 1:
            msg = f"the levels start with {flag}; allowed are 0 (no zeros) and 1 (some)"
            raise BitstreamError(msg)
        if not flag:
            return _opened(super().decode(reader.take(reader.left), shape, base))
        if self.coder != "fixed":
            levels = super().decode(reader.take(reader.left), shape, base)
            if levels.all():
                msg = "zeros are announced and there are none"
                raise BitstreamError(msg)
            return levels
        packed = np.frombuffer(reader.take((size + 7) // 8), np.uint8)
        there = np.unpackbits(packed)[:size].astype(bool)
        if there.all() or np.packbits(there).tobytes() != packed.tobytes():
            msg = "the bit map of zeros has none, or goes on behind the last weight"
            raise BitstreamError(msg)
        count = int(np.count_nonzero(there))
        levels = np.zeros(size, np.int32)
        levels[there] = _opened(super().decode(reader.take(reader.left), (count,), base))
        return levels.reshape(shape)


def _closed(levels: NDArray[Any]) -> NDArray[np.int32]:
    return np.asarray(levels - (levels > 0), np.int32)


def _opened(closed: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.asarray(closed + (closed >= 0), np.int32)
