"""SNIP at the client: all connections are scored, then those that are kept are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from clients.masked import MaskedTraining, answer, train_masked
from fedcomp import seeds
from fedcomp.wire.keys import SCORES

if TYPE_CHECKING:
    from fedcomp.methods import Answer, Work


@dataclass(frozen=True)
class Snip(MaskedTraining):
    """In the first round score every weight with |g·w| on one mini-batch; later train what is kept.

    Lee, Ajanthan and Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity",
    ICLR 2019, arXiv:1810.02340.  Each client of the first round trains what its own scores keep,
    and sends the scores as side information (float16, relative to the largest); the server keeps
    what has the highest on average.
    """

    name: ClassVar[str] = "snip"

    def fit(self, work: Work) -> Answer:
        """Train, in the first round with the client's own masks."""
        if work.round > 1:
            return super().fit(work)
        from fedcomp.training.pruning import magnitude_masks
        from fedcomp.training.sensitivity import sensitivity

        settings = work.settings
        rng = seeds.generator(settings.seed, work.round, "scores", work.client)
        scores = sensitivity(
            work.module, work.train, settings.train, task=work.task, names=work.prunable(), rng=rng
        )
        masks, _ = magnitude_masks(scores, settings.server_step.sparsity(1, settings.rounds))
        loss = train_masked(work, masks)
        flat = np.concatenate([value.reshape(-1) for value in scores.values()])
        relative = (flat / flat.max()).astype(np.float16)  # float16 has no room for the sum 1
        return answer(work.tensors(), loss, {SCORES: relative})
