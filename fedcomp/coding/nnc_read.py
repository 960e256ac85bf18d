"""Reader of one NNC code-word that nobody vouches for (ISO/IEC 15938-17)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.nnc_checks import (
    checked_base,
    checked_flags,
    checked_shape,
    read_only,
    rows_of,
)
from fedcomp.coding.nnc_contexts import (
    GREATER,
    GREATER_FLAGS,
    ROW_SKIPPED,
    SET_PRESENT,
    context_count,
    signalled,
)
from fedcomp.coding.nnc_tables import starts, transitions
from fedcomp.errors import BitstreamError, CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# By the status that the loops of `nnc_decode` return.
PROBLEMS = {
    1: "the payload is truncated",
    2: "the exponential-Golomb prefix of a level is too long",
    3: "a level is beyond int32",
    4: "the payload does not terminate after its last level",
    5: "bytes follow the end of the payload",
    6: "the stop bit of the payload is not where it belongs",
}


class PayloadReader:
    """A cursor through the code-word of one unit, which may be anything.

    Damage shows as BitstreamError or as other levels: the code-word has no checksum.

    Examples
    --------
    >>> reader = PayloadReader(bytes.fromhex("da1a500647fe"))
    >>> reader.get_bits(8, signed=True)
    -38
    >>> reader.get_levels((2, 4)).tolist()
    [[0, 1, 0, -1], [0, 0, 0, 0]]
    >>> reader.finish()
    """

    def __init__(self, data: bytes | bytearray | memoryview, flags: int = GREATER_FLAGS) -> None:
        from fedcomp.coding import nnc_decode

        self._flags = checked_flags(flags)
        self._data = read_only(np.frombuffer(data, np.uint8))
        self._st = np.zeros(5, np.int64)
        if not len(self._data):
            raise BitstreamError("the payload is empty; even no level at all takes bytes")
        nnc_decode.decode_start(self._data, self._st)
        if self._st[0] >= self._st[1]:
            raise BitstreamError("the payload starts with bits that no code-word starts with")

    def get_bits(self, bits: int, *, signed: bool = False) -> int:
        """Return a value of at most 32 bits at even odds."""
        from fedcomp.coding import nnc_decode

        if not 0 <= bits <= 32:
            raise CodecError(f"cannot read {bits} bits at once; 0 to 32 are possible")
        value = int(nnc_decode.decode_bits(bits, self._data, self._st))
        return value - (1 << bits) if signed and value >> max(bits - 1, 0) & 1 else value

    def get_levels(
        self,
        shape: Sequence[int],
        *,
        dependent: bool = False,
        base: NDArray[Any] | None = None,
        parent: bool | None = None,
    ) -> NDArray[np.int32]:
        """Return a tensor; the arguments are those of `PayloadWriter.put_levels`."""
        from fedcomp.coding import nnc_decode

        shape = checked_shape(shape)
        past = None if base is None else checked_base(base, shape)
        rows, width = rows_of(shape)
        size = math.prod(shape)
        table, fresh = read_only(transitions()), np.tile(starts()[0], context_count(self._flags))
        row_skip = False
        if rows > 1:
            history = parent if parent is not None else base is not None
            if history and self.get_bits(1):
                raise BitstreamError("significance by history (HDSP) is on, which is not supported")
            row_skip = bool(self.get_bits(1))
        if not row_skip:
            rows, width = min(1, size), size
        skip = np.zeros(rows, np.uint8)
        if row_skip:
            status = nnc_decode.decode_rows(
                skip, GREATER + 4 * self._flags + ROW_SKIPPED, fresh, table, self._data, self._st
            )
            if status != nnc_decode.DONE:
                raise BitstreamError(f"{PROBLEMS[status]} in the flags of {rows} rows")
        used = signalled(self._flags, dependent, base is not None)
        sets = np.zeros(context_count(self._flags), np.uint8)
        nnc_decode.decode_sets(
            used, sets, GREATER + 4 * self._flags + SET_PRESENT, fresh, table, self._data, self._st
        )
        levels = np.zeros(size, np.int32)
        status = nnc_decode.decode_body(
            *(levels, past, 1 if dependent else None, skip, width, self._flags),
            *(starts()[sets].ravel(), table, self._data, self._st),
        )
        if status != nnc_decode.DONE:
            raise BitstreamError(f"{PROBLEMS[status]} at position {int(self._st[4])} of {size}")
        return levels.reshape(shape)

    def finish(self) -> None:
        """Check that the code-word ends here, and the bytes with it."""
        from fedcomp.coding import nnc_decode

        status = nnc_decode.decode_end(self._data, self._st)
        if status != nnc_decode.DONE:
            raise BitstreamError(f"{PROBLEMS[status]} ({len(self._data)} bytes)")
