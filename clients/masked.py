"""Training of a sparse model: weights that are zero stay so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.methods import Answer, Recipe, Work
from fedcomp.model_size import share_of_zeros
from fedcomp.wire.keys import TRAIN_LOSS, ZEROS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.tensors import Tensors
    from fedcomp.training.pruning import Masks


@dataclass(frozen=True)
class MaskedTraining(Recipe):
    """Train the weights that are not zero in the received model, and no others.

    The recipe of plain magnitude pruning: Zhu and Gupta, "To prune, or not to prune",
    arXiv:1710.01878, with server_step=feddip.
    """

    name: ClassVar[str] = "masked"
    reports: ClassVar[tuple[str, ...]] = (TRAIN_LOSS, ZEROS)

    def fit(self, work: Work) -> Answer:
        """Train, and return a model with the zeros that came."""
        masks = received_masks(work)
        loss = train_masked(work, masks)
        work.link.confine(masks)
        return answer(work.tensors(), loss)


def received_masks(work: Work) -> Masks:
    """Return where weights of the received model are not zero; in round 1 nothing is pruned yet."""
    if work.round == 1:
        return {}
    weights = work.link.session.manifest.weights
    return {spec.name: np.asarray(work.link.received[spec.name] != 0) for spec in weights}


def train_masked(
    work: Work,
    masks: Masks,
    *,
    dense: bool = False,
    penalties: Mapping[str, float] | None = None,
) -> float:
    """Train the module of a round's work at w ⊙ m; return the loss."""
    from clients.local import train_locally
    from fedcomp.training.masked import MaskedSteps

    with MaskedSteps(work.module, masks, dense=dense, penalties=penalties) as steps:
        return train_locally(work, steps.before_step)


def answer(tensors: Tensors, loss: float, side: Tensors | None = None) -> Answer:
    """Return an answer that says which share of the model's values is zero."""
    zeros = share_of_zeros(tensors.values())
    return Answer(tensors, {TRAIN_LOSS: loss, ZEROS: zeros}, side or {})
