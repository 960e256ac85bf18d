"""The lossless step of codecs that yield integers: several tensors, any coder, several threads.

Every tensor is a section of its own, its length before it (7 bits a byte, the lowest first), so
that tensors are coded at the same time where cores are free; the bytes do not depend on that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fedcomp.codecs.lazy import each
from fedcomp.coding import nnc
from fedcomp.coding.nnc_checks import rows_of
from fedcomp.coding.reader import varint
from fedcomp.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from fedcomp.coding.reader import Reader

Coder: TypeAlias = Literal["cabac", "deflate", "fixed", "golomb", "huffman", "zstd"]


def check_alphabet(coder: Coder, bits: int) -> None:
    """Refuse Huffman codes of more levels than they have words for."""
    if coder == "huffman" and bits > 16:
        msg = f"coder=huffman has code words for 65,536 levels, bits={bits} may need more"
        raise ValueError(msg)


def nothing(name: str) -> None:
    """Return no levels for a tensor."""


@dataclass(frozen=True)
class Coding:
    """How the integers of a packet are written.

    Parameters
    ----------
    coder
        Module of `fedcomp.coding`; `cabac` is the coder of NNC.
    dependent
        The levels are those of the 8-state quantiser (cabac only).
    base
        Gives by tensor name levels that both ends know, which choose contexts (cabac only).
    """

    coder: Coder
    dependent: bool = False
    base: Callable[[str], NDArray[Any] | None] = field(default=nothing, repr=False)

    def encode(self, levels: NDArray[Any], base: NDArray[Any] | None = None) -> bytes:
        """Return the bytes of one tensor."""
        if self.coder != "cabac":
            return bytes(_module(self.coder).encode(levels))
        return nnc.encode_levels(
            levels,
            row_skip=_has_empty_row(levels),
            dependent=self.dependent,
            search_init="best",
            base=base,
        )

    def decode(
        self, data: memoryview, shape: tuple[int, ...], base: NDArray[Any] | None = None
    ) -> NDArray[np.int32]:
        """Return the tensor of that shape."""
        if self.coder == "cabac":
            return nnc.decode_levels(data, shape, dependent=self.dependent, base=base)
        flat: NDArray[np.int32] = _module(self.coder).decode(data, math.prod(shape))
        return flat.reshape(shape)

    def write(self, named: Mapping[str, NDArray[Any]]) -> bytes:
        """Return the sections of all tensors."""

        def section(item: tuple[str, NDArray[Any]]) -> bytes:
            name, levels = item
            try:
                return self.encode(levels, self.base(name))
            except CodecError as error:
                msg = f"tensor {name!r}: {error}"
                raise CodecError(msg) from error

        sections = each(section, list(named.items()), [v.size for v in named.values()])
        return b"".join(part for data in sections for part in (varint(len(data)), data))

    def sections(
        self, reader: Reader, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Callable[[], NDArray[np.int32]]]:
        """Find the sections that `write` wrote; return what decodes each."""

        def levels(name: str, data: memoryview) -> NDArray[np.int32]:
            return self.decode(data, shapes[name], self.base(name))

        return {name: partial(levels, name, reader.take(reader.varint())) for name in shapes}


def _module(coder: str) -> Any:
    return import_module(f"fedcomp.coding.{coder}")


def _has_empty_row(levels: NDArray[Any]) -> bool:
    """Tell whether a row can be skipped; where none can, the bins that say so cost more."""
    rows, width = rows_of(levels.shape)
    return rows > 1 and not levels.reshape(rows, width).any(axis=1).all()
