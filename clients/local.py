"""Plain local training, as in FedAvg and FedProx."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp import seeds
from fedcomp.methods import Answer, Recipe, Work
from fedcomp.wire.keys import PROXIMAL_MU, TRAIN_LOSS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from fedcomp.training.settings import TrainSettings


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
        return Answer(work.tensors(), {TRAIN_LOSS: loss})


def train_locally(
    work: Work,
    before_step: Callable[[], None] | None = None,
    *,
    settings: TrainSettings | None = None,
    more: Sequence[nn.Parameter] = (),
    purpose: str = "train",
) -> float:
    """Train the module of a round's work in place; return the loss.

    Parameters
    ----------
    settings
        Where they are others than the run's.
    purpose
        Of a part of training that draws other batches; FedProx pulls in the main one only.
    before_step, more
        See `fedcomp.training.loop.train`.
    """
    from fedcomp.training.loop import train

    run = work.settings
    chosen = settings or run.train
    mu = work.config.get(PROXIMAL_MU, chosen.proximal_mu) if purpose == "train" else 0
    return train(
        work.module,
        work.train,
        chosen,
        task=work.task,
        lr=chosen.learning_rate(work.round, run.rounds),
        proximal_mu=float(mu) if isinstance(mu, int | float) else 0.0,
        rng=seeds.generator(run.seed, work.round, purpose, work.client),
        before_step=before_step,
        more=more,
    )
