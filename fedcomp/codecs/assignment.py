"""Which level each weight gets: entropy-constrained (ECQ) and relevance-driven (ECQ^x).

    ECQ     a = argmin_c (w − w_c)² − λ·log₂ P_c
    ECQ^x   the cost of c = 0 is multiplied by ρ_w = 2·R_w^β

P_c is the share of the weights that are nearest to w_c; P_0 counts as ½ at least, so that 0 is
always the cheapest to write.  λ = γ·δ·λ_max, δ from the size of the layer, and at λ_max one of the
tensor's extreme weights would cost as much at 0 as at its own level:

    λ_n = (w_min² − (w_min − w_n)²) / (log₂ P_0 − log₂ P_n), and the same with w_max

Wiedemann et al., arXiv:2004.00935 (ECQ, EC2T); Becking et al., arXiv:2109.04236 (ECQ^x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from fedcomp.codecs.clusters import below, real
from fedcomp.coding.kernels import late_kernel
from fedcomp.coding.nnc_checks import read_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.grid import Grid
    from fedcomp.tensors import Array

Bound: TypeAlias = Literal["min", "max"]
"""λ_max is the lesser of both ends' (Wiedemann et al.), so that neither side loses all its weights;
an end is the last level with all but 1/2,000 of them.  Or it is the greater, of the two extreme
weights, as in the published code of ECQ^x, where a single large one may make a whole layer 0."""

LEAST_ZEROS = 0.5
_TAIL = 1 / 2000
_XI = 0.05
_LEAST_RELEVANCE = 1e-12


class Costs(NamedTuple):
    """What each level of a grid costs beside its distance, in the square of weights."""

    grid: Grid
    bits: NDArray[np.float64]
    weight: float

    @property
    def prices(self) -> NDArray[np.float64]:
        """−λ·log₂ P_c; infinite where no weight is near, but for 0."""
        with np.errstate(invalid="ignore"):  # 0 · ∞
            found = self.weight * self.bits
        return np.where(np.isinf(self.bits), np.inf, found)


def costs(values: Array, grid: Grid, gamma: float, bound: Bound = "min") -> Costs:
    """Measure the shares of a tensor's levels, and what a bit costs, with γ·δ as `gamma`."""
    flat = read_only(real(values).reshape(-1))
    counts = np.zeros(grid.high - grid.low + 1, np.int64)
    _count(flat, 1.0 / grid.step, grid.low, grid.high, counts)
    bits = information(counts, -grid.low)
    if bound == "max":
        ends = float(flat.min()), float(flat.max())
        return Costs(grid, bits, gamma * max(_largest_weights(ends, grid, bits), default=0.0))
    levels = _last(counts), len(counts) - 1 - _last(counts[::-1])
    ends = float(grid.values[levels[0]]), float(grid.values[levels[1]])
    return Costs(grid, bits, gamma * min(_largest_weights(ends, grid, bits), default=0.0))


def assign(values: Array, priced: Costs) -> NDArray[np.int32]:
    """Return the cheapest level of each weight.

    Examples
    --------
    >>> from fedcomp.codecs.grid import Grid
    >>> w, grid = np.array([0.6, 0.2, -0.1, 0.0, 1.7]), Grid(1.0, -2, 1)
    >>> assign(w, costs(w, grid, 0)).tolist()
    [1, 0, 0, 0, 1]
    >>> assign(w, costs(w, grid, 0.5)).tolist()
    [0, 0, 0, 0, 1]
    """
    levels, borders = _envelope(priced.grid.values, priced.prices)
    numbers = (levels + priced.grid.low).astype(np.int32)
    return np.asarray(numbers[below(values, borders)])


def assign_relevant(
    values: Array, priced: Costs, relevance: Array, intensity: float
) -> NDArray[np.int32]:
    """Return the cheapest level of each weight where 0 costs more for relevant weights.

    R = |relevance| / max|relevance|.  β starts such that the mean of R has the factor 1, and is
    then the nearest one for which the share of zeros lies between that of `assign` less `intensity`
    and that of `assign`; the published code goes there by steps of 10 % and more, to 1 at most.
    Where all weights are equally relevant, or there are fewer zeros than `intensity`, the levels
    are those of `assign`.

    Examples
    --------
    >>> from fedcomp.codecs.grid import Grid
    >>> w, r = np.array([0.6, 0.6, -0.4, 0.1, 0.0, -1.6]), np.array([1, 9, 1, 0, 0, 1])
    >>> priced = costs(w, Grid(1.0, -2, 1), 0.3)
    >>> assign(w, priced).tolist(), assign_relevant(w, priced, r, 0.2).tolist()
    ([0, 0, 0, 0, 0, -2], [0, 1, 0, 0, 0, -2])
    """
    plain = assign(values, priced)
    sizes = np.abs(relevance.reshape(-1)).astype(np.float32, copy=False)
    largest, mean = float(sizes.max(initial=0)), float(sizes.mean(dtype=np.float64))
    zeros = 1 - np.count_nonzero(plain) / plain.size
    if not 0 < mean < largest < np.inf or zeros <= intensity:
        return plain
    zero, prices = -priced.grid.low, priced.prices.copy()
    price, prices[zero] = prices[zero], np.inf
    if np.isinf(prices).all():
        return plain
    levels, borders = _envelope(priced.grid.values, prices)
    numbers = (levels + priced.grid.low).astype(np.int32)
    best = np.ascontiguousarray(numbers[below(values, borders)])
    turns = np.empty(plain.size, np.float32)
    flat = read_only(real(values).reshape(-1))
    _turns(
        *(flat, best.reshape(-1), priced.grid.step, prices, -priced.grid.low, price),
        *(sizes, 1 / largest, turns),
    )
    beta = _beta(turns, np.log(0.5) / np.log(mean / largest + _LEAST_RELEVANCE), zeros, intensity)
    return np.where(turns.reshape(plain.shape) < beta, np.int32(0), best)


def layer_share(size: int, largest: int) -> float:
    """Return δ = (#W / max #W + ξ) / (1 + ξ): small layers lose less.

    Examples
    --------
    >>> layer_share(100, 100), round(layer_share(1, 100), 4)
    (1.0, 0.0571)
    """
    return (size / largest + _XI) / (1 + _XI)


def information(counts: NDArray[np.int64], zero: int) -> NDArray[np.float64]:
    """Return −log₂ P_c, that of 0 being 1 at most, infinite for the other levels without weights.

    Examples
    --------
    >>> information(np.array([4, 2, 2]), 1)
    array([1.5849625, 1.       , 2.5849625])
    """
    shares = counts / counts.sum()
    rest = 1 - shares[zero]
    if shares[zero] < LEAST_ZEROS:
        shares = shares * ((1 - LEAST_ZEROS) / rest)
        shares[zero] = LEAST_ZEROS
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log2(shares))


def _last(counts: NDArray[np.int64]) -> int:
    """Return the first place up to which there is more than a tail."""
    return int(np.argmax(counts.cumsum() > _TAIL * counts.sum()))


def _largest_weights(
    ends: tuple[float, float], grid: Grid, bits: NDArray[np.float64]
) -> list[float]:
    """Return λ_n of those ends that are nearest to a level other than 0."""
    found = []
    for end in ends:
        level = int(np.clip(np.rint(end / grid.step), grid.low, grid.high))
        more = float(bits[level - grid.low] - bits[-grid.low])
        if level and 0 < more < np.inf:
            found.append((end**2 - (end - level * grid.step) ** 2) / more)
    return found


def _envelope(
    centres: NDArray[np.float64], prices: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which levels are the cheapest somewhere, in order, and the borders between them.

    (w − c)² + h − w² is a line in w; the least of lines is concave, and its pieces are in the order
    of their slopes −2c.
    """
    kept: list[int] = []
    borders: list[float] = []
    for at in np.flatnonzero(np.isfinite(prices)):
        while kept:
            last = kept[-1]
            height = prices[at] - prices[last] + centres[at] ** 2 - centres[last] ** 2
            border = height / (2 * (centres[at] - centres[last]))
            if len(kept) == 1 or border > borders[-1]:
                borders.append(border)
                break
            kept.pop()
            borders.pop()
        kept.append(int(at))
    return np.array(kept), np.array(borders, np.float64)


def _beta(turns: NDArray[np.float32], start: float, zeros: float, intensity: float) -> float:
    """Return the β nearest to `start` within the window of zeros."""
    found = np.count_nonzero(turns < start) / turns.size
    if zeros - intensity <= found <= zeros:
        return start
    if found > zeros:  # the largest β with no more zeros than that
        rank = int(np.floor(zeros * turns.size + 1e-6))
        return float(np.partition(turns, rank)[rank])
    rank = int(np.ceil((zeros - intensity) * turns.size - 1e-6)) - 1
    return float(np.nextafter(np.partition(turns, rank)[rank], np.float32(np.inf)))


@late_kernel
def _count(values: Any, rate: float, low: int, high: int, counts: Any) -> None:
    """Count the weights nearest to each level."""
    for i in range(len(values)):
        level = min(max(np.rint(values[i] * rate), low), high)
        counts[int(level) - low] += 1


@late_kernel
def _turns(
    values: Any,
    best: Any,
    step: float,
    prices: Any,
    zero: int,
    price: float,
    relevance: Any,
    rate: float,
    out: Any,
) -> None:
    """Write beyond which β a weight becomes 0: 2·R^β·cost(0) < cost(best other)."""
    for i in range(len(values)):
        w = np.float64(values[i])
        apart = w - best[i] * step
        other = apart * apart + prices[best[i] + zero]
        own = w * w + price
        fall = np.log(min(relevance[i] * rate + 1e-12, 1.0))
        margin = np.log(other / (2.0 * own)) if own > 0.0 else np.inf
        if fall < 0.0:
            out[i] = margin / fall
        else:
            out[i] = -np.inf if margin > 0.0 else np.inf
