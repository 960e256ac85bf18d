"""FedDIP at the client: dynamic pruning with error feedback and incremental regularisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from fedcomp import seeds
from fedcomp.methods import Answer, Recipe, Work
from fedcomp.wire.keys import TRAIN_LOSS, ZEROS

if TYPE_CHECKING:
    from fedcomp.training.pruning import Masks


@dataclass(frozen=True)
class PenaltySettings:
    """λ over the rounds, see `fedcomp.training.pruning.staged_penalty`.

    Parameters
    ----------
    first, limit
        Of the second stage, and what the stage after the last would have; no penalty in the first.
    stages
        How many there are, of equal length.
    """

    first: Annotated[float, Ge(0)] = 5e-4
    limit: Annotated[float, Ge(0)] = 1e-3
    stages: Annotated[int, Ge(1)] = 20


@dataclass(frozen=True)
class FedDip(Recipe):
    """Gradients of loss + λ Σ ‖w ⊙ m‖ at w ⊙ m move the dense w; m is where w came as not zero.

    Long et al., "FedDIP: Federated Learning with Extreme Dynamic Pruning and Incremental
    Regularization", ICDM 2023, arXiv:2309.06805.  The first model comes dense: each client draws
    masks of its own then, as sparse as the server's first ones.

    Parameters
    ----------
    initial
        Densities of the first masks: by layer (`erk`), the same in all (`uniform`), or `none`.
    penalty
        How λ rises.
    upload
        `needed`: zeros for weights that the server sets to zero anyway; `dense`: all weights
        always, as the published code does.
    """

    name: ClassVar[str] = "feddip"
    reports: ClassVar[tuple[str, ...]] = (TRAIN_LOSS, ZEROS)

    initial: Literal["erk", "uniform", "none"] = "erk"
    penalty: PenaltySettings = field(default_factory=PenaltySettings)
    upload: Literal["needed", "dense"] = "needed"

    def fit(self, work: Work) -> Answer:
        """Train, and return what the server will look at."""
        from clients.masked import answer, received_masks, train_masked
        from fedcomp.training.pruning import staged_penalty

        settings, penalty = work.settings, self.penalty
        names = work.prunable()
        masks = received_masks(work) if work.round > 1 else self._first_masks(work, names)
        stages = penalty.stages, penalty.first, penalty.limit
        size = staged_penalty(work.round, settings.rounds, *stages)
        loss = train_masked(work, masks, dense=True, penalties=dict.fromkeys(names, size))
        trained = work.tensors()
        if self.upload == "dense" or not settings.server_step.drops_zeros(work.round):
            return answer(trained, loss)
        work.link.confine(masks)
        zero = {name: trained[name].dtype.type(0) for name in masks}
        kept = {name: np.where(m, trained[name], zero[name]) for name, m in masks.items()}
        return answer(trained | kept, loss)

    def _first_masks(self, work: Work, names: list[str]) -> Masks:
        """Draw which weights this client computes with while the model is dense."""
        from fedcomp.training.pruning import erk_densities, random_masks

        settings = work.settings
        density = 1 - settings.server_step.sparsity(1, settings.rounds)
        if self.initial == "none" or density == 1:
            return {}
        shapes = {name: work.link.received[name].shape for name in names}
        densities = dict.fromkeys(names, density)
        if self.initial == "erk":
            densities = erk_densities(shapes, density)
        rng = seeds.generator(settings.seed, work.round, "masks", work.client)
        return random_masks(shapes, densities, rng)
