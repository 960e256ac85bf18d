"""Which weights a sparse model keeps: schedules, magnitude masks, random masks by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fedcomp.tensors import Tensors

    Masks = dict[str, NDArray[np.bool_]]


def cubic_sparsity(number: int, rounds: int, start: float, target: float) -> float:
    """Return s_p + (s_0 − s_p)(1 − t / T)³ with t = number − 1, numbers counting from 1.

    Zhu and Gupta, "To prune, or not to prune", arXiv:1710.01878; FedDIP's schedule.

    Examples
    --------
    >>> [round(cubic_sparsity(t + 1, 1000, 0.5, 0.95), 3) for t in (0, 100, 250, 500, 750, 999)]
    [0.5, 0.622, 0.76, 0.894, 0.943, 0.95]
    """
    left = 1 - (number - 1) / rounds
    return target + (start - target) * left * left * left


def staged_penalty(number: int, rounds: int, stages: int, first: float, limit: float) -> float:
    """Return FedDIP's λ of a round: 0 in the first of equal stages, then `first` and more.

    In stage i ≥ 1 it is first + (limit − first)(i − 1) / (stages − 1); the limit is never reached.

    Examples
    --------
    >>> values = [staged_penalty(t + 1, 1000, 20, 5e-4, 1e-3) for t in (0, 49, 50, 100, 999)]
    >>> [round(1e4 * value, 3) for value in values]
    [0.0, 0.0, 5.0, 5.263, 9.737]
    """
    width = max(rounds // stages, 1)
    stage = min((number - 1) // width, stages - 1)
    if stage == 0:
        return 0.0
    return first + (limit - first) * (stage - 1) / max(stages - 1, 1)


def magnitude_masks(tensors: Tensors, sparsity: float) -> tuple[Masks, list[str]]:
    """Keep the largest weights of all tensors together; return masks, and tensors that were spared.

    Of n weights round(sparsity · n) are left out, ties in model order; a tensor that would lose all
    of its weights keeps its largest one.

    Examples
    --------
    >>> masks, spared = magnitude_masks({"a": np.array([3.0, -1.0]), "b": np.array([0.5])}, 2 / 3)
    >>> {name: mask.tolist() for name, mask in masks.items()}, spared
    ({'a': [True, False], 'b': [True]}, ['b'])
    """
    if not tensors:
        return {}, []
    sizes = np.concatenate([np.abs(value).reshape(-1) for value in tensors.values()])
    kept = ~_smallest(sizes, round(sparsity * sizes.size))
    ends = np.cumsum([value.size for value in tensors.values()])[:-1]
    masks: Masks = {}
    spared = []
    for (name, value), part in zip(tensors.items(), np.split(kept, ends), strict=True):
        if value.size and not part.any():
            part[np.abs(value).argmax()] = True
            spared.append(name)
        masks[name] = part.reshape(value.shape)
    return masks, spared


def _smallest(sizes: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Mark so many of the smallest numbers, of equal ones the first."""
    if not count:
        return np.zeros(sizes.size, bool)
    most = np.partition(sizes, count - 1)[count - 1]
    found = np.asarray(sizes < most)
    ties = np.flatnonzero(sizes == most)
    found[ties[: count - int(np.count_nonzero(found))]] = True
    return found


def erk_densities(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Return a density for each layer, all together `density`: ε·(Σ dims) / (Π dims), at most 1.

    Evci et al., "Rigging the Lottery: Making All Tickets Winners", ICML 2020, arXiv:1911.11134.

    Examples
    --------
    >>> found = erk_densities({"conv": (8, 4, 3, 3), "dense": (100, 100)}, 0.4)
    >>> {name: round(value, 4) for name, value in found.items()}
    {'conv': 1.0, 'dense': 0.3827}
    """
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    weights = {name: sum(shape) / sizes[name] for name, shape in shapes.items()}
    full: set[str] = set()
    while True:
        left = density * sum(sizes.values()) - sum(sizes[name] for name in full)
        rest = [name for name in shapes if name not in full]
        scale = left / sum(weights[name] * sizes[name] for name in rest) if rest else 0.0
        beyond = {name for name in rest if scale * weights[name] > 1}
        if not beyond:
            return {name: 1.0 if name in full else scale * weights[name] for name in shapes}
        full |= beyond


def random_masks(
    shapes: Mapping[str, tuple[int, ...]], densities: Mapping[str, float], rng: np.random.Generator
) -> Masks:
    """Return masks whose weights are drawn, as many of each layer as its density says."""
    masks: Masks = {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        flat = np.zeros(size, bool)
        flat[rng.permutation(size)[: max(round(densities[name] * size), 1)]] = True
        masks[name] = flat.reshape(shape)
    return masks
