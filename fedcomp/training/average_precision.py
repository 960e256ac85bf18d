"""Average precision in the forms that Pascal VOC and others define.

With precision p(k) and recall r(k) among the k samples of highest score, k not dividing samples of
equal score and those without a finite one coming last,

    area              ∫ max_{r' ≥ r} p(r') dr              Pascal VOC from 2010 on
    eleven points     mean of max_{r' ≥ r} p(r') over r = 0, 0.1, …, 1       Pascal VOC 2007
    plain             Σ_k (r(k) − r(k − 1)) · p(k)         without interpolation

Everingham et al., "The Pascal Visual Object Classes Challenge: A Retrospective", IJCV 2015.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedcomp.tensors import Array


def means(scores: Array, targets: Array) -> dict[str, float]:
    """Return the mean over classes of all three; a class that no sample has does not count.

    Parameters
    ----------
    scores
        (samples, classes)
    targets
        1 for present, 0 for absent, −1 for a sample that this class leaves out.
    """
    found = [
        class_precisions(scores[:, at], targets[:, at])
        for at in range(targets.shape[1])
        if (targets[:, at] == 1).any()
    ]
    names = ("map", "map_eleven_points", "macro_ap")
    values = np.mean(found, axis=0) if found else np.zeros(len(names))
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def class_precisions(scores: Array, targets: Array) -> tuple[float, float, float]:
    """Return area, eleven points and plain average precision of one class.

    Examples
    --------
    >>> found = class_precisions(np.array([0.9, 0.8, 0.7]), np.array([1, 0, 1]))
    >>> [round(value, 4) for value in found]
    [0.8333, 0.8485, 0.8333]
    """
    counted = targets >= 0
    ranked = np.where(np.isfinite(scores[counted]), scores[counted], -np.inf)
    order = np.argsort(-ranked, kind="stable")
    equal = np.append(ranked[order][1:] == ranked[order][:-1], False)
    ends = np.flatnonzero(~equal)  # where equal scores end: their order means nothing
    found = np.cumsum(targets[counted][order] == 1)[ends]
    precision = found / (ends + 1)
    recall = found / found[-1]
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    gained = np.diff(recall, prepend=0.0)
    # Recalls are multiples of 1/n: what misses 0.1·i by rounding alone must count as reached.
    reached = np.searchsorted(recall, np.linspace(0, 1, 11) - 1e-9)
    return (
        float(gained @ envelope),
        float(envelope[reached].mean()),
        float(gained @ precision),
    )
