"""Writer of one NNC code-word: side information, tensors, stop bit (ISO/IEC 15938-17)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fedcomp.coding.nnc_checks import (
    checked_base,
    checked_flags,
    checked_levels,
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
from fedcomp.errors import CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Search = bool | Literal["best"]
SEARCHES = (False, True, "best")


class PayloadWriter:
    """The arithmetic code-word of one unit: side information and tensors, then the stop bit.

    Parameters
    ----------
    flags
        G, the greater-than flags of a level before its exponential-Golomb rest
        (cabac_unary_length_minus1 + 1).

    Examples
    --------
    >>> writer = PayloadWriter()
    >>> writer.put_bits(-38, 8)
    >>> writer.put_levels(np.array([[0, 1, 0, -1], [0, 0, 0, 0]]), row_skip=True)
    >>> writer.finish().hex()
    'da1a500647fe'
    """

    def __init__(self, flags: int = GREATER_FLAGS) -> None:
        self._flags = checked_flags(flags)
        # Bytes that one level can need at the most: 7 bits per bin, and the bits of its rest.
        self._margin = (7 * (flags + 36) + 64) // 8 + 16
        self._out = np.empty(4 * self._margin, np.uint8)
        # L, R, doublings not yet written, bytes; then row, position, class, state of the body.
        self._st = np.array([0, 510, 0, 0, 0, 0, 0, 0], np.int64)
        self._finished = False

    def put_bits(self, value: int, bits: int) -> None:
        """Append a value of at most 32 bits at even odds, negative ones in two's complement."""
        from fedcomp.coding import nnc_encode

        if not 0 <= bits <= 32 or not -(1 << bits >> 1) <= value < 1 << bits:
            raise CodecError(f"{value} does not fit into {bits} bits (0 to 32 are possible)")
        self._reserve(self._margin)
        nnc_encode.encode_bits(value & ((1 << bits) - 1), bits, self._out, self._st)

    def put_levels(
        self,
        levels: NDArray[Any],
        *,
        row_skip: bool = False,
        dependent: bool = False,
        search_init: Search = False,
        base: NDArray[Any] | None = None,
        parent: bool | None = None,
    ) -> None:
        """Append a tensor.

        Parameters
        ----------
        levels
            Integers within int32, of any shape.
        row_skip
            Spend a bin per row (of the first axis) and nothing on rows of zeros.
        dependent
            The levels are r = 2k − sgn(k)·(state & 1) of the 8-state quantiser.
        search_init
            Choose the start of every context by a dry run, as NNCodec does. If `dependent`, it
            looks at other levels than those it codes; "best" looks at the right ones.
        base
            Levels of the previous update, which choose the contexts where they are not 0.
        parent
            The unit names a parent node; None if and only if there is a `base`.
        """
        from fedcomp.coding import nnc_encode

        if search_init not in SEARCHES:
            raise CodecError(f"search_init {search_init!r} is not known; give one of {SEARCHES}")
        shape = np.shape(levels)
        flat = checked_levels(levels)
        past = None if base is None else checked_base(base, shape)
        rows, width = rows_of(shape)
        table, fresh = read_only(transitions()), np.tile(starts()[0], context_count(self._flags))
        if rows > 1:
            if parent if parent is not None else base is not None:
                self.put_bits(0, 1)  # no significance by history
            self.put_bits(int(row_skip), 1)
        if rows == 1 or not row_skip:
            rows, width = min(1, flat.size), flat.size
        skip = np.zeros(rows, np.uint8)
        if rows > 1:
            skip[:] = ~flat.reshape(rows, width).any(axis=1)
            self._reserve(rows + self._margin)
            nnc_encode.encode_rows(
                skip, GREATER + 4 * self._flags + ROW_SKIPPED, fresh, table, self._out, self._st
            )
        quantiser = 1 if dependent else None
        used = signalled(self._flags, dependent, base is not None)
        sets = np.zeros(context_count(self._flags), np.uint8)
        if search_init:
            from fedcomp.coding.nnc_search import choose_sets

            doubled = search_init != "best"
            sets = choose_sets(flat, past, quantiser, doubled, skip, width, self._flags)
        self._reserve(2 * len(used) + flat.size // 2 + self._margin)
        nnc_encode.encode_sets(
            used, sets, GREATER + 4 * self._flags + SET_PRESENT, fresh, table, self._out, self._st
        )
        contexts = starts()[sets].ravel()
        self._st[4:] = 0
        while True:
            status = nnc_encode.encode_body(
                *(flat, past, quantiser, skip, width, self._flags, contexts, table),
                *(self._out, len(self._out) - self._margin, self._st),
            )
            if status != nnc_encode.FULL:
                break
            self._reserve(len(self._out))
        if status == nnc_encode.BROKEN:
            at = int(self._st[5])
            raise CodecError(
                f"level {flat[at]} at position {at} is impossible in state {int(self._st[7])} of "
                f"the dependent quantiser: even states take even levels, odd ones odd levels and 0"
            )

    def finish(self) -> bytes:
        """Return the code-word with its terminating bin and stop bit; it takes nothing more."""
        from fedcomp.coding import nnc_encode

        self._reserve(self._margin)
        nnc_encode.encode_end(self._out, self._st)
        self._finished = True
        return self._out[: self._st[3]].tobytes()

    def _reserve(self, more: int) -> None:
        """Make room for so many bytes, unless the code-word has ended."""
        if self._finished:
            raise CodecError("the code-word is finished and takes nothing more; start another one")
        need = int(self._st[3]) + more
        if need > len(self._out):
            grown = np.empty(need, np.uint8)
            grown[: self._st[3]] = self._out[: self._st[3]]
            self._out = grown
