"""Numbering of the NNC contexts (ISO/IEC 15938-17) for G greater-than flags.

0 … 23       significance: 3·state + class of the previous level (0, −, +)
24 … 39      significance with temporal context: 24 + 2·state + (|base| > 1)
48 … 50      sign: 48 + class of the previous level
51, 52       sign with temporal context: 51 + (base > 0)
53 …         |v| > k + 1: 53 + 2k + (v < 0)
53 + 2G …    the same with temporal context: 53 + 2G + 2k + (|base| < k)
53 + 4G …    prefix of the exponential-Golomb rest, one context per bin
53 + 4G + 34 initialisation set signalled
53 + 4G + 36 row skipped
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNIFICANT = 0
SIGNIFICANT_BASE = 24
SIGN = 48
SIGN_BASE = 51
GREATER = 53
PREFIXES = 31  # a rest below 2^31 has at most 30 ones and the closing zero
SET_PRESENT = 34
ROW_SKIPPED = 36

GREATER_FLAGS = 11
"""G of a stream that does not say otherwise (cabac_unary_length_minus1 = 10)."""


def context_count(flags: int) -> int:
    """Return the number of contexts, 48 + 5 + 4G + 32 + 5."""
    return GREATER + 4 * flags + 37


def signalled(flags: int, dependent: bool, base: bool) -> NDArray[np.int64]:
    """Return the contexts whose initialisation set is in the payload, in its order."""
    parts = [np.arange(SIGNIFICANT, 24 if dependent else 3)]
    if base:
        parts.append(np.arange(SIGNIFICANT_BASE, 40 if dependent else 26))
    parts.append(np.arange(SIGN, GREATER if base else SIGN_BASE))
    parts.append(np.arange(GREATER, GREATER + (4 if base else 2) * flags))
    parts.append(np.arange(PREFIXES) + GREATER + 4 * flags)
    return np.concatenate(parts)
