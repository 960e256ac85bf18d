"""DeepCABAC at the client: an update quantised with regard to how much each weight matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedcomp.link.update import Update
from fedcomp.methods import Answer, Recipe, Work
from fedcomp.wire.keys import TRAIN_LOSS


@dataclass(frozen=True)
class DeepCabac(Recipe):
    """Local training that also measures the importance of each weight for the quantiser.

    Wiedemann et al., "DeepCABAC: A Universal Compression Algorithm for Deep Neural Networks",
    IEEE JSTSP 2020, arXiv:1907.11900: importance 1/σ² of a weight, here the diagonal of the
    empirical Fisher information, the mean squared gradient over the mini-batches of the round.

    Parameters
    ----------
    weighted
        Whether importance is measured, for an uplink codec that looks at it; otherwise all weights
        count alike.
    """

    name: ClassVar[str] = "deepcabac"

    weighted: bool = True

    def fit(self, work: Work) -> Answer:
        """Train, then quantise with importance."""
        from clients.local import train_locally
        from fedcomp.training.importance import SquaredGradients

        if not (self.weighted and work.link.session.uplink.uses_importance):
            loss = train_locally(work)
            return Answer(work.tensors(), {TRAIN_LOSS: loss})
        squares = SquaredGradients(work.module)
        loss = train_locally(work, squares.add)
        trained = work.tensors()
        symbols, _ = work.link.quantise(trained, squares.relative())
        return Answer(Update(symbols, trained), {TRAIN_LOSS: loss})
