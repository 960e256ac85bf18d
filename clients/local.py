"""Plain local training, as in FedAvg and FedProx."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp import seeds
from fedcomp.methods import Answer, Recipe, Work
from fedcomp.wire.keys import PROXIMAL_MU

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class LocalTraining(Recipe):
    """Some epochs of SGD or Adam on the client's own samples.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017, arXiv:1602.05629.
    """

    name: ClassVar[str] = "local"

    def fit(self, work: Work) -> Answer:
        """Train and return all tensors that travel."""
        loss = train_locally(work)
        return Answer(work.tensors(), {"train_loss": loss})


def train_locally(work: Work, before_step: Callable[[], None] | None = None) -> float:
    """Train the module of a round's work in place; return the loss."""
    from fedcomp.training.loop import train

    settings = work.settings
    mu = work.config.get(PROXIMAL_MU, settings.train.proximal_mu)
    return train(
        work.module,
        work.train,
        settings.train,
        task=work.task,
        lr=settings.train.learning_rate(work.round, settings.rounds),
        proximal_mu=float(mu) if isinstance(mu, int | float) else 0.0,
        rng=seeds.generator(settings.seed, work.round, "train", work.client),
        before_step=before_step,
    )
