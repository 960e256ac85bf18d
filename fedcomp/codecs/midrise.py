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
    """Lets the coder `fixed` write 2m levels in the bits of 2m, and a bit map where some are zero.

    All other coders give a level the bits that its frequency asks for, zero among them.

    Examples
    --------
    >>> MidriseCoding("fixed").encode(np.array([1, -1, -2, 2, 1, 1, 1, 1])).hex()
    '0042fec6aa'
    """

    def encode(self, levels: NDArray[Any], base: NDArray[Any] | None = None) -> bytes:
        """Return the bytes of one tensor."""
        if self.coder != "fixed":
            return super().encode(levels, base)
        there = levels != 0
        close = levels[there]
        close = close - (close > 0)
        if there.all():
            return b"\0" + super().encode(close, base)
        return b"\1" + np.packbits(there).tobytes() + super().encode(close, base)

    def decode(
        self, data: memoryview, shape: tuple[int, ...], base: NDArray[Any] | None = None
    ) -> NDArray[np.int32]:
        """Return the tensor of that shape."""
        if self.coder != "fixed":
            return super().decode(data, shape, base)
        reader, size = Reader(data), math.prod(shape)
        there = np.ones(size, bool)
        flag = reader.uint(1)
        if flag > 1:
            msg = f"the levels start with {flag}; allowed are 0 (no zeros) and 1 (a bit map)"
            raise BitstreamError(msg)
        if flag:
            packed = np.frombuffer(reader.take((size + 7) // 8), np.uint8)
            there = np.unpackbits(packed)[:size].astype(bool)
            if there.all() or np.packbits(there).tobytes() != packed.tobytes():
                msg = "the bit map of zeros has none, or goes on behind the last weight"
                raise BitstreamError(msg)
        close = super().decode(reader.take(reader.left), (int(np.count_nonzero(there)),), base)
        levels = np.zeros(size, np.int32)
        levels[there] = close + (close >= 0)
        return levels.reshape(shape)
