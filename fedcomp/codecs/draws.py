"""Subsets that both ends of a link draw from one seed.

Of numpy's random numbers only the raw words of a bit generator are the same in all versions, so
that all else is done here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.kernels import late_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_WORDS = 1 << 16


def positions(size: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return `count` of `size` positions, each subset as likely as any other, in order.

    Examples
    --------
    >>> positions(100, 4, np.random.default_rng(1)).tolist()
    [18, 39, 54, 65]
    """
    return np.flatnonzero(drawn(size, count, generator))


def drawn(size: int, count: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Tell of each of `size` positions whether it is one of `count` that are drawn.

    The top bits of each word are a position; one that is out of range or was drawn before is
    passed over.  Of more than a half those are drawn that are left out.
    """
    few = min(count, size - count)
    bits = max((size - 1).bit_length(), 1)
    mask = np.zeros(1 << bits, np.bool_)
    mask[size:] = True  # so that the loop below has no test that a processor cannot predict
    while few:
        words = generator.bit_generator.random_raw(min(2 * few, _MOST_WORDS))
        few = _mark(words, np.uint64(64 - bits), few, mask)
    return mask[:size] if count <= size - count else ~mask[:size]


@late_kernel
def _mark(words: Any, shift: Any, wanted: int, mask: Any) -> Any:
    """Mark the positions that words name until so many are new; return how many are missing."""
    for i in range(len(words)):
        at = words[i] >> shift
        wanted -= 1 - mask[at]
        mask[at] = True
        if not wanted:
            break
    return wanted
