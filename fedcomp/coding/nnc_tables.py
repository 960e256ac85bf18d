"""Numbers of the NNC entropy coder (ISO/IEC 15938-17) and the look-ups made from them.

`LPS_RANGES`, `STATE_STEPS`, `INIT_SETS` and `TRELLIS` are the standard's. `transitions` unrolls
them into one flat array, so that a coded bin costs three loads and no multiplication.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# LPS_RANGES[32·ρ + κ]: range of the less probable bin; ρ = (R >> 5) & 7, κ = |s >> 7|.
LPS_RANGES = bytes.fromhex(
    "80706154 4a413932 2d27221e 1b171412 0f0e0c0b 0a090707 05050404 03030202"
    "8e7d6c5d 52483f38 322b2621 1e1a1614 11100d0c 0b0a0808 06060505 03030202"
    "9c897767 5a4f463d 37302a25 211c1816 13110f0d 0c0b0909 06060505 04040202"
    "ab968270 63574c43 3c342e28 241f1b18 1513100f 0d0c0a0a 07070606 04040303"
    "b9a28d79 6b5e5249 4138322b 27221d1a 16151110 0e0d0b0b 08080606 04040303"
    "c7af9883 7365594e 463d362f 2a241f1c 18161311 0f0e0c0c 08080707 05050303"
    "d5bba38c 7b6c5f54 4b413a32 2d27211e 1a181412 100f0d0d 09090707 05050303"
    "e4c8ae96 8474665a 50463e36 302a2420 1c1a1614 12100e0e 0a0a0808 06060404"
)

# STATE_STEPS[16 + x]: how far a window moves; x = its sixteenths in the direction of the bin.
STATE_STEPS = (
    *(2512, 2288, 2064, 1840, 1616, 1392, 1168, 944, 720, 560, 464, 368, 272, 208, 144, 80),
    *(64,) * 15,
    0,
)

# (ρ0, ρ1, s, a): rates of the fast and the slow window, start of the sum and of the fast window.
INIT_SETS = (
    (1, 4, 0, 0),
    (1, 4, -1310, -41),
    (1, 4, 3039, 95),
    (0, 5, 0, 0),
    (2, 6, 962, 30),
    (2, 6, 3039, 95),
    (2, 6, -673, -21),
    (3, 5, 0, 0),
    (3, 5, 962, 30),
)

# (next state after an even index, after an odd index) of the 8-state dependent quantiser.
TRELLIS = ((0, 2), (7, 5), (1, 3), (6, 4), (2, 0), (5, 7), (3, 1), (4, 6))

# The same, four bits each, entry 2·state + parity.
PACKED_TRELLIS = sum(
    after << 4 * (2 * state + odd)
    for state, row in enumerate(TRELLIS)
    for odd, after in enumerate(row)
)

# Offsets of the parts of `transitions`: the slow window's next index (3 rates × 4096 values × bin),
# the fast one's (4 × 256 × bin), the LPS range (64 values of s >> 7, times 8 of ρ) and the range
# after RUN zero bins of a state at rest (32 values of s >> 7 below 0, times 256 ranges).
FAST = 3 * 4096 * 2
RANGE = FAST + 4 * 256 * 2
REST = RANGE + 64 * 8
RUN = 8


def _window(rate: int, unit: int, scale: int) -> NDArray[np.int64]:
    """Return x ← x + sgn · (STATE_STEPS[16 + (sgn·x >> unit)] >> rate) for all x and both bins."""
    half = 16 << unit
    x = np.arange(-half, half)[:, None]
    sign = np.array([[-1, 1]])
    place = np.minimum(16 + (sign * x >> unit), 31)
    step = np.array(STATE_STEPS)[place] >> rate
    after: NDArray[np.int64] = np.clip(x + sign * step, -half, half - 1) + half + scale
    return after


def _ranges() -> NDArray[np.int64]:
    """Return the LPS range for every (s >> 7) + 32 and ρ."""
    kappa = np.minimum(abs(np.arange(-32, 32)), 31)
    return np.frombuffer(LPS_RANGES, np.uint8).reshape(8, 32).T[kappa].astype(np.int64)


def _rest() -> NDArray[np.int64]:
    """Return R after RUN more probable bins, with the number of doublings on top of its 9 bits."""
    lps = _ranges()[:32]
    index = np.arange(32)[:, None]
    now = np.tile(np.arange(256, 512), (32, 1))
    doublings = np.zeros_like(now)
    for _ in range(RUN):
        now = now - lps[index, now >> 5 & 7]
        small = now < 256
        doublings += small
        now = now << small
    return now | doublings << 9


@lru_cache(maxsize=1)
def transitions() -> NDArray[np.uint16]:
    """Return all look-ups of the coder as one array."""
    slow = [_window(4 + i, 7, 4096 * i).ravel() for i in range(3)]
    fast = [_window(4 + i, 3, 256 * i).ravel() for i in range(4)]
    parts = [*slow, *fast, _ranges().ravel(), _rest().ravel()]
    return np.concatenate(parts).astype(np.uint16)


@lru_cache(maxsize=1)
def starts() -> NDArray[np.uint16]:
    """Return the (fast, slow) start indices of every initialisation set."""
    rows = [(256 * f + a + 128, 4096 * (w - 4) + s - 16 * a + 2048) for f, w, s, a in INIT_SETS]
    return np.array(rows, np.uint16)


@lru_cache(maxsize=1)
def costs() -> NDArray[np.int64]:
    """Return the rate model: 2^-15 bit for (s >> 3) + 512 and the bin, as cost[2·i + bin].

    The less probable bin costs 32968 + 400.8·min(|i − 512|, 511), the other what is left.
    """
    i = np.arange(1024)
    less = 32968 + 400.8 * np.minimum(abs(i - 512), 511)
    more = -32768 * np.log2(1 - 2 ** (-less / 32768))
    pair = np.where((i >= 512)[:, None], np.stack([less, more], 1), np.stack([more, less], 1))
    return np.rint(pair).astype(np.int64).ravel()
