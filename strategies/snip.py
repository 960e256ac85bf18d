"""SNIP at the server: masks by the clients' scores after the first round, and never again."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Lt

from fedcomp.errors import RoundError
from fedcomp.training.pruning import magnitude_masks
from fedcomp.wire.keys import SCORES
from strategies.masking import Masking, MaskingSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.methods import ServerStep
    from fedcomp.setup import Setup
    from fedcomp.tensors import Tensors

log = logging.getLogger(__name__)


class Scored(Masking):
    """Keeps the weights that the clients of the first round score highest on average."""

    def __init__(self, setup: Setup, target: float) -> None:
        super().__init__(setup)
        self._target = target

    def after_aggregate(
        self,
        model: Tensors,
        side: Mapping[str, Tensors],
        metrics: Mapping[str, float],
        round_number: int,
    ) -> tuple[Tensors, Tensors]:
        """Return the sparse model."""
        self.charge(self._target, metrics)
        if not self._masks:
            self._masks, spared = magnitude_masks(self._mean(side, round_number), self._target)
            if spared:
                log.warning("nothing would be left of %s; the best weight stays", ", ".join(spared))
        return self.masked(model), {}

    def _mean(self, side: Mapping[str, Tensors], round_number: int) -> Tensors:
        """Return the mean over clients of what each weight has of the sum of all scores."""
        count = sum(math.prod(shape) for shape in self._shapes.values())
        shares = []
        for site, arrays in side.items():
            scores = arrays.get(SCORES, np.empty(0)).astype(np.float64)
            total = scores.sum()
            if scores.shape != (count,) or not (scores >= 0).all() or not 0 < total < np.inf:
                log.warning("round %d: site %s sent no usable scores", round_number, site)
                continue
            shares.append(scores / total)
        if not shares:
            msg = f"round {round_number}: no client sent usable scores; server_step=snip needs them"
            raise RoundError(msg)
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()])[:-1]
        parts = zip(self._shapes.items(), np.split(np.mean(shares, axis=0), ends), strict=True)
        return {name: part.reshape(shape) for (name, shape), part in parts}


@dataclass(frozen=True)
class Snip(MaskingSettings):
    """Prune once, by scores of the untrained model.

    Lee, Ajanthan and Torr, ICLR 2019, arXiv:1810.02340.

    Parameters
    ----------
    target
        Sparsity of the prunable weights, those of server_step=feddip.
    """

    name: ClassVar[str] = "snip"

    target: Annotated[float, Ge(0), Lt(1)] = 0.95

    def sparsity(self, round_number: int, rounds: int) -> float:  # noqa: ARG002
        """Return the target."""
        return self.target

    def drops_zeros(self, round_number: int) -> bool:
        """Tell whether the masks are there: from the second round on."""
        return round_number > 1

    def create(self, setup: Setup) -> ServerStep:
        """Return the step for one run."""
        return Scored(setup, self.target)
