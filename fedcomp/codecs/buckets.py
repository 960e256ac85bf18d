"""Weights in buckets that share one value: a subspace of a tensor's weights, drawn by a seed.

    z_b = Σ s_i·w_i / √n_b   over the n_b weights of bucket b        ŵ_i = s_i·z_b(i) / √n_b(i)

Each weight is in one bucket, with a random sign s; buckets are of equal size but for one weight, or
fewer in the last one.  So the map from z to ŵ keeps lengths, and ŵ is the part of w that lies in
the subspace.

Li et al., "Measuring the Intrinsic Dimension of Objective Landscapes", ICLR 2018, arXiv:1804.08838,
train in such subspaces; Chen et al., "Compressing Neural Networks with the Hashing Trick", ICML
2015, arXiv:1504.04788, draw them this way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from fedcomp import seeds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fedcomp.tensors import Array

_KEPT = 64


@dataclass(frozen=True)
class Buckets:
    """Which bucket each weight of a tensor is in, and with which sign.

    Attributes
    ----------
    of
        The bucket of each weight.
    signs
        1 or −1.
    sizes
        How many weights each bucket has.
    """

    of: NDArray[np.int32]
    signs: NDArray[np.float32]
    sizes: NDArray[np.int64]

    @property
    def is_whole(self) -> bool:
        """Whether each weight is alone."""
        return len(self.sizes) == len(self.of)

    @cached_property
    def _factors(self) -> NDArray[np.float32]:
        """Return s_i / √n for each weight; division and root are exact to the last bit."""
        roots: NDArray[np.float32] = np.sqrt(self.sizes.astype(np.float32))
        return (self.signs / roots[self.of]).astype(np.float32)

    def project(self, values: Array) -> NDArray[np.float64]:
        """Return z."""
        flat = np.asarray(values.reshape(-1) * self._factors, np.float64)
        return np.asarray(np.bincount(self.of, flat, len(self.sizes)), np.float64)

    def spread(self, values: Array) -> Array:
        """Return ŵ, flat, the same to the bit on every machine."""
        found: Array = values[self.of] * self._factors.astype(values.dtype)
        return found


def draw(size: int, pace: float, seed: int, tensor: str) -> Buckets:
    """Divide the weights of a tensor, in an order that a seed draws, at `pace` buckets a weight.

    At twice the pace each bucket is divided in two: the larger subspace holds the smaller one.

    Examples
    --------
    >>> buckets = draw(10, 0.3, 1, "w")
    >>> buckets.sizes.tolist(), np.bincount(buckets.of).tolist() == buckets.sizes.tolist()
    ([4, 3, 3], True)
    >>> z = np.array([1.0, -2.0, 0.5])
    >>> bool(np.allclose(buckets.project(buckets.spread(z)), z))
    True
    """
    return _draw(size, min(pace, 1.0), seed, tensor)


def count(size: int, pace: float) -> int:
    """Return the number of buckets."""
    return int((size - 1) * min(pace, 1.0)) + 1 if size else 0


@lru_cache(maxsize=_KEPT)
def _draw(size: int, pace: float, seed: int, tensor: str) -> Buckets:
    if pace >= 1:
        whole = np.arange(size, dtype=np.int32)
        return _fixed(Buckets(whole, np.ones(size, np.float32), np.ones(size, np.int64)))
    words = seeds.generator(seed, "buckets", tensor).bit_generator.random_raw(size)
    of = np.empty(size, np.int32)
    of[np.argsort(words >> np.uint64(1), kind="stable")] = np.arange(size) * pace
    signs = np.where(words & np.uint64(1), np.float32(-1), np.float32(1))
    sizes = np.bincount(of, minlength=count(size, pace))
    return _fixed(Buckets(of, signs, sizes))


def _fixed(buckets: Buckets) -> Buckets:
    for array in (buckets.of, buckets.signs, buckets.sizes):
        array.flags.writeable = False
    return buckets


def paces(sizes: Mapping[str, int], dimensions: int, whole: int) -> dict[str, float]:
    """Divide dimensions among tensors by the root of their sizes; small ones stay whole.

    Examples
    --------
    >>> paces({"w": 10_000, "v": 40_000, "bias": 20}, 300, 100)
    {'w': 0.01, 'v': 0.005, 'bias': 1.0}
    """
    roots = {name: isqrt(size) for name, size in sizes.items() if size > whole}
    total = sum(roots.values())
    return {
        name: min(dimensions * roots[name] / (total * size), 1.0) if name in roots else 1.0
        for name, size in sizes.items()
    }
