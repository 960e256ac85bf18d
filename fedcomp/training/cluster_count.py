"""FedCompress's controller: one cluster more where accuracy and representation stop improving.

Over rolling means of a few rounds, with k = C − C_min:

    C ← C + 1 where  Δ accuracy ≤ limit / 2k,  Δ E ≤ 10 · limit / 2k  (limit, 10 · limit at k = 0),
    C was used in `patience` rounds and C < C_max
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class ClusterCount:
    """How many clusters there are, and when there are more.

    Tsouvalas et al., "Communication-Efficient Federated Learning through Adaptive Weight Clustering
    and Server-Side Distillation", ICASSP 2024, arXiv:2401.14211, whose values are the defaults.

    Parameters
    ----------
    least, most
        C_min, with which it starts, and C_max.
    limit
        What an accuracy between 0 and 1 has to gain in a round.
    window, patience
        Rounds of a rolling mean; rounds with one C before the next.
    """

    least: Annotated[int, Ge(2), Le(256)] = 8
    most: Annotated[int, Ge(2), Le(256)] = 30
    limit: Annotated[float, Gt(0)] = 0.01
    window: Annotated[int, Ge(1)] = 3
    patience: Annotated[int, Ge(1)] = 4

    def __post_init__(self) -> None:
        if self.least > self.most:
            msg = f"least={self.least} is above most={self.most}"
            raise ValueError(msg)


@dataclass
class Controller:
    """The rounds so far, and the number of clusters that follows from them."""

    settings: ClusterCount
    accuracies: list[float] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    clusters: int = 0

    def __post_init__(self) -> None:
        self.clusters = self.clusters or self.settings.least

    def record(self, accuracy: float, rank: float) -> int:
        """Take up a round's accuracy and E; return the number of clusters from now on.

        Examples
        --------
        >>> controller = Controller(ClusterCount())
        >>> [controller.record(0.5, 12.0) for _ in range(9)]
        [8, 8, 8, 9, 9, 9, 9, 10, 10]
        """
        self.accuracies.append(accuracy)
        self.ranks.append(rank)
        self.counts.append(self.clusters)
        if self._stalls():
            self.clusters += 1
        return self.clusters

    def _stalls(self) -> bool:
        settings, used = self.settings, self.counts.count(self.clusters)
        if used < settings.patience or len(self.counts) < settings.window:
            return False
        if self.clusters >= settings.most or len(self.counts) < 2:
            return False
        grown = self.clusters - settings.least
        limit = settings.limit / (2 * grown) if grown else settings.limit
        return self._gain(self.accuracies) <= limit and self._gain(self.ranks) <= 10 * limit

    def _gain(self, values: Sequence[float]) -> float:
        """Return by how much the rolling mean has risen."""
        last, before = (values[: len(values) - back][-self.settings.window :] for back in (0, 1))
        return mean(last) - mean(before)
