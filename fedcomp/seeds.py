"""Randomness that both ends of a link can repeat."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_from(*words: str | int) -> int:
    """Derive a 63-bit seed from words such as (run seed, round, direction, client, tensor).

    Examples
    --------
    >>> seed_from(1, 2, "uplink") == seed_from(1, 2, "uplink")
    True
    >>> seed_from(1, 23) == seed_from(12, 3)
    False
    """
    text = "\0".join(f"{type(word).__name__}:{word}" for word in words)
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*words: str | int) -> np.random.Generator:
    """Return a numpy generator seeded by `seed_from(*words)`.

    Its raw words are the same in all versions of numpy; what `Generator` makes of them is not.
    """
    return np.random.Generator(np.random.PCG64(seed_from(*words)))
