"""Weights in buckets that share one value: a subspace of a tensor's weights, drawn by a seed.

    z_b = Σ s_i·w_i / √n_b   over the n_b weights of bucket b        ŵ_i = s_i·z_b(i) / √n_b(i)

Each weight is in one bucket, weight i of a tensor with k buckets in bucket i mod k, with a random
sign s.  So the map from z to ŵ keeps lengths, and ŵ is the part of w that lies in the subspace.

Li et al., "Measuring the Intrinsic Dimension of Objective Landscapes", ICLR 2018, arXiv:1804.08838,
train in random subspaces; Chen et al., "Compressing Neural Networks with the Hashing Trick", ICML
2015, arXiv:1504.04788, let weights share values with random signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from fedcomp import seeds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fedcomp.tensors import Array


@dataclass(frozen=True, eq=False)
class Buckets:
    """The buckets of a tensor, and the sign of each weight.

    Attributes
    ----------
    signs
        1 or −1.
    count
        How many buckets there are.
    """

    signs: NDArray[np.int8]
    count: int

    @property
    def is_whole(self) -> bool:
        """Whether each weight is alone."""
        return self.count == len(self.signs)

    @property
    def rows(self) -> int:
        """How many weights the largest bucket has."""
        return -(-len(self.signs) // max(self.count, 1))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many weights each bucket has."""
        found = np.full(self.count, self.rows)
        found[len(self.signs) - self.count * (self.rows - 1) :] -= 1
        return found

    def project(self, values: Array) -> NDArray[np.float64]:
        """Return z."""
        padded = np.zeros(self.rows * self.count)
        padded[: len(self.signs)] = values.reshape(-1) * self.signs
        found: NDArray[np.float64] = padded.reshape(self.rows, self.count).sum(0)
        return found / np.sqrt(self.sizes)

    def spread(self, values: Array) -> Array:
        """Return ŵ, flat, the same to the bit on every machine."""
        shared = values / np.sqrt(self.sizes).astype(values.dtype)
        found: Array = np.resize(shared, len(self.signs)) * self.signs
        return found


def draw(size: int, pace: float, seed: int, tensor: str) -> Buckets:
    """Divide the weights of a tensor at about `pace` buckets a weight.

    At twice the pace each bucket is divided in two: the larger subspace holds the smaller one.

    Examples
    --------
    >>> buckets = draw(10, 0.3, 1, "w")
    >>> buckets.sizes.tolist()
    [4, 3, 3]
    >>> z = np.array([1.0, -2.0, 0.5])
    >>> bool(np.allclose(buckets.project(buckets.spread(z)), z))
    True
    """
    words = seeds.generator(seed, "buckets", tensor).bit_generator.random_raw(-(-size // 64))
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), count=size)
    return Buckets(1 - 2 * bits.astype(np.int8), count(size, pace))


def count(size: int, pace: float) -> int:
    """Return the number of buckets: with four binary digits, so that it doubles with the pace.

    Examples
    --------
    >>> count(1000, 0.1), count(1000, 0.2), count(1000, 0.4), count(1000, 1.0)
    (96, 192, 384, 1000)
    """
    if pace >= 1:
        return size
    wanted = min(max(int(size * pace), 1), size)
    unit = 1 << max(wanted.bit_length() - 4, 0)
    return wanted // unit * unit


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
