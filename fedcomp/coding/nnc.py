"""Integer tensors to NNC payloads and back (ISO/IEC 15938-17; uniform and dependent levels).

A payload is one arithmetic code-word. `encode_levels` and `decode_levels` deal with one tensor;
`PayloadWriter` and `PayloadReader` also put side information and more tensors into it. Numba is
imported with the first tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedcomp.coding.nnc_read import PayloadReader
from fedcomp.coding.nnc_write import PayloadWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from fedcomp.coding.nnc_write import Search

__all__ = ["PayloadReader", "PayloadWriter", "decode_levels", "encode_levels"]


def encode_levels(
    levels: NDArray[Any],
    *,
    row_skip: bool = False,
    dependent: bool = False,
    search_init: Search = False,
    base: NDArray[Any] | None = None,
) -> bytes:
    """Return the payload of one tensor; see `PayloadWriter.put_levels`.

    Examples
    --------
    >>> import numpy as np
    >>> encode_levels(np.array([1, -1, 2, -3, 0, 12, -13, 200])).hex()
    '8d001cb591594a8e6709467fc0'
    """
    writer = PayloadWriter()
    writer.put_levels(
        levels, row_skip=row_skip, dependent=dependent, search_init=search_init, base=base
    )
    return writer.finish()


def decode_levels(
    data: bytes | bytearray | memoryview,
    shape: Sequence[int],
    *,
    dependent: bool = False,
    base: NDArray[Any] | None = None,
) -> NDArray[np.int32]:
    """Return the only tensor of a payload; see `PayloadReader.get_levels`.

    Examples
    --------
    >>> decode_levels(bytes.fromhex("8d002924"), (4,))
    array([0, 0, 0, 0], dtype=int32)
    """
    reader = PayloadReader(data)
    levels = reader.get_levels(shape, dependent=dependent, base=base)
    reader.finish()
    return levels
