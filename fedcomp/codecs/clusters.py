"""k-means in one dimension: few centroids of least squared distance to many values.

Clusters of numbers are intervals of their order.  Values are sorted once and their order is cut at
a grid of some 2,000 places.  The best cuts on that grid come from dynamic programming, whose rows
take O(grid · log grid) because the best last cut never moves back (Grønlund et al., "Fast Exact
k-Means, k-Medians and Bregman Divergence Clustering in 1D", 2017, arXiv:1701.07204); where the
grid is all places between different values they are the best of all.  Lloyd's iterations then move
cuts between grid places, each by k binary searches.  Nothing is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.coding.kernels import late_kernel
from fedcomp.coding.nnc_checks import read_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.tensors import Array

GRID = 2048
ITERATIONS = 100
BLOCK = 2048


def centroids(values: Array, count: int, *, keep_zero: bool = False) -> NDArray[np.float64]:
    """Return at most `count` centroids of a tensor that has values, in ascending order.

    Where there are no more different values than that, they are the centroids.

    Parameters
    ----------
    keep_zero
        Hold the centroid nearest to 0 at 0.

    Examples
    --------
    >>> centroids(np.array([9.0, 1.0, 2.0, 8.0, 1.5]), 2)
    array([1.5, 8.5])
    >>> centroids(np.array([9.0, 1.0, 2.0, 8.0, 1.5]), 2, keep_zero=True)
    array([0. , 8.5])
    """
    ordered = np.sort(real(values).reshape(-1))
    starts = np.concatenate(([0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1))
    if len(starts) <= count:
        return ordered[starts].astype(np.float64)
    places = _grid(ordered, starts)
    cuts = _best_cuts(ordered, places, count)
    means = np.add.reduceat(ordered, cuts[:-1], dtype=np.float64) / np.diff(cuts)
    return _lloyd(ordered, means, int(np.abs(means).argmin()) if keep_zero else None)


def nearest(values: Array, centres: Array) -> NDArray[np.int64]:
    """Return for each value the index of the nearest of ascending centroids, the upper at a tie.

    Examples
    --------
    >>> nearest(np.array([[-7.0, 1.4], [1.5, 3.0]]), np.array([1.0, 2.0, 3.0]))
    array([[0, 0],
           [1, 2]])
    """
    wide = real(values)
    return below(wide, _borders(centres, wide))


def below(values: Array, borders: Array) -> NDArray[np.int64]:
    """Return for each value how many of ascending borders are not above it.

    Examples
    --------
    >>> below(np.array([0.5, 1.0, 9.0]), np.array([1.0, 2.0]))
    array([0, 1, 2])
    """
    wide = real(values)
    borders = borders.astype(wide.dtype, copy=False)
    beyond = 2 ** borders.size.bit_length() - 1 - borders.size
    padded = np.pad(borders, (0, beyond), constant_values=np.nan)  # above all values
    indices = np.empty(wide.shape, np.int64)
    _search(read_only(np.ravel(wide)), padded, indices.reshape(-1))
    return indices


def real(values: Array) -> Array:
    """Return values in a type in which they can be sorted, and compared by kernels."""
    return values.astype(np.promote_types(values.dtype, np.float32), copy=False)


def _borders(centres: Array, like: Array) -> Array:
    """Return what separates neighbouring centroids, in the type of what is separated.

    A search in values of another type would first copy all of them.
    """
    wide = centres.astype(np.float64, copy=False)
    return np.asarray((wide[1:] + wide[:-1]) / 2).astype(like.dtype)


@late_kernel
def _search(values: Any, borders: Any, out: Any) -> None:
    """Write how many of 2^m − 1 borders are not above each value.

    Blocks of values, which a cache holds, take each halving of a binary search together: there is
    nothing to guess, unlike in a search for one value after the other.
    """
    for start in range(0, len(values), BLOCK):
        part, found = values[start : start + BLOCK], out[start : start + BLOCK]
        for i in range(len(part)):
            found[i] = 0
        step = (len(borders) + 1) >> 1
        while step:
            for i in range(len(part)):
                at = found[i]
                found[i] = at + step * (borders[np.uint64(at + step - 1)] <= part[i])
            step >>= 1


def _grid(ordered: Array, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where clusters may start in sorted values, with their end as the last place.

    Half of the places by Σ √gap, which is √density for many values, wide gaps counting less; half
    by rank, whatever the gaps are.  And both ends of values that come often.
    """
    if len(starts) > GRID:
        gaps = np.sqrt(np.diff(ordered[starts].astype(np.float64)))
        rising = np.cumsum(np.minimum(gaps, 2 * gaps.sum() / GRID))
        rising = rising / rising[-1] + np.linspace(0, 1, gaps.size)
        spread = np.searchsorted(rising, np.linspace(0, 2, GRID)[:-1])
        common = ordered[np.linspace(0, ordered.size - 1, GRID // 8).astype(np.int64)]
        ends = [np.searchsorted(ordered, common, side=side) for side in ("left", "right")]
        starts = np.unique(np.concatenate((starts[spread + 1], *ends)))
    return np.union1d(starts, [0, ordered.size])


def _best_cuts(ordered: Array, places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the places at which clusters of least squared distance start, and the end."""
    bins = places[:-1]
    sums = np.add.reduceat(ordered, bins, dtype=np.float64)
    squares = np.add.reduceat(np.square(ordered, dtype=np.float64), bins)
    sums, squares = (np.concatenate(([0.0], np.cumsum(part))) for part in (sums, squares))
    costs = np.empty((count + 1, len(places)))
    last = np.zeros((count + 1, len(places)), np.int32)
    _divide(places.astype(np.float64), sums, squares, costs, last)
    cuts = [len(places) - 1]
    for clusters in range(count, 0, -1):
        cuts.append(int(last[clusters, cuts[-1]]))
    return places[cuts[::-1]]


@late_kernel
def _divide(ends: Any, sums: Any, squares: Any, costs: Any, last: Any) -> None:
    """Fill costs[c, i], the least of c clusters of the first i bins, and where the last starts.

    A row is filled from its middle to its gaps, for the last cluster of i bins starts between
    those of fewer and of more bins.
    """
    size = len(ends)
    for i in range(1, size):
        costs[1, i] = squares[i] - sums[i] * sums[i] / ends[i]
    for c in range(2, len(costs)):
        width = size - c
        stride = 1
        while 2 * stride <= width:
            stride *= 2
        while stride:
            for t in range(stride - 1, width, 2 * stride):
                i = t + c
                low = last[c, i - stride] if t >= stride else c - 1
                high = min(i - 1, last[c, i + stride] if t + stride < width else i - 1)
                least = np.inf
                for j in range(low, high + 1):
                    inner = sums[i] - sums[j]
                    cost = squares[i] - squares[j] - inner * inner / (ends[i] - ends[j])
                    if costs[c - 1, j] + cost < least:
                        least = costs[c - 1, j] + cost
                        last[c, i] = j
                costs[c, i] = least
            stride //= 2


def _lloyd(ordered: Array, centres: NDArray[np.float64], zero: int | None) -> NDArray[np.float64]:
    """Move centroids to the means of what is nearest to them until none moves."""
    totals = np.concatenate(([0.0], np.cumsum(ordered, dtype=np.float64)))
    before = np.empty(0, np.int64)
    for _ in range(ITERATIONS):
        if zero is not None:
            centres[zero] = 0
        inner = np.searchsorted(ordered, _borders(centres, ordered))
        cuts = np.concatenate(([0], inner, [ordered.size]))
        if np.array_equal(cuts, before):
            break
        before, filled = cuts, np.flatnonzero(np.diff(cuts))
        first, end = cuts[filled], cuts[filled + 1]
        means = (totals[end] - totals[first]) / (end - first)
        centres[filled] = np.clip(means, ordered[first], ordered[end - 1])  # totals are rounded
    return centres
