"""FedCompress at the client: training that ends with few different weights in each layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt

from fedcomp.methods import Answer, Recipe, Work
from fedcomp.model_size import deflated_bytes
from fedcomp.wire.keys import CLUSTERS, DEFLATED, TRAIN_LOSS, VALIDATION

if TYPE_CHECKING:
    from fedcomp.methods import Clustering
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class FedCompress(Recipe):
    """Train, then train with clustered weights; validate, and describe the embeddings.

    Tsouvalas et al., "Communication-Efficient Federated Learning through Adaptive Weight Clustering
    and Server-Side Distillation", ICASSP 2024, arXiv:2401.14211.

    Parameters
    ----------
    epochs
        Passes with clustered weights, after those of `train`; by default as many passes, or steps.
    optimizer, lr
        Of these.  The gradient of a centroid is a sum over many weights, so that SGD would need
        another rate for each layer.
    score
        What the server's score is computed from: `gram`, the triangle of the embeddings' Gram
        matrix in 16 bits, or the `embeddings` themselves, as the published code has it.
    max_side_bytes
        Where a triangle would take more, embeddings of more dimensions are projected to 64 first.
    """

    name: ClassVar[str] = "fedcompress"
    reports: ClassVar[tuple[str, ...]] = (TRAIN_LOSS, CLUSTERS, VALIDATION, DEFLATED)

    epochs: Annotated[int, Ge(1)] | None = None
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: Annotated[float, Gt(0)] = 5e-4
    score: Literal["gram", "embeddings"] = "gram"
    max_side_bytes: Annotated[int, Ge(0)] = 32_768

    def fit(self, work: Work) -> Answer:
        """Train both ways; return a model of clusters."""
        from clients.local import train_locally
        from fedcomp.training import score

        train_locally(work)
        count = self._clusters(work)
        loss = self._train_clustered(work, count)
        validation, embeddings = self._validate(work)
        tensors = work.tensors()
        metrics = {
            TRAIN_LOSS: loss,
            CLUSTERS: float(count),
            VALIDATION: validation,
            DEFLATED: float(deflated_bytes(tensors)),
        }
        side = score.pack(embeddings, self.score, self.max_side_bytes, work.settings.seed)
        return Answer(tensors, metrics, side)

    @staticmethod
    def _clusters(work: Work) -> int:
        """Return how many clusters the server wants; no server has said so before round 1."""
        told = work.link.side.get(CLUSTERS)
        return _plan(work).least if told is None else int(told)

    def _train_clustered(self, work: Work, count: int) -> float:
        from clients.local import train_locally
        from fedcomp.training.clustered import ClusteredSteps, clustered_weights
        from fedcomp.training.loop import place

        settings = work.settings
        own = replace(
            settings.train,
            optimizer=self.optimizer,
            lr=self.lr,
            epochs=self.epochs or settings.train.epochs,
            steps=settings.train.steps if self.epochs is None else None,
        )
        place(work.module, own)
        manifest = work.link.session.manifest
        names = clustered_weights(work.module, manifest, _plan(work).weights)
        with ClusteredSteps(work.module, names, count) as steps:
            return train_locally(
                work, steps.before_step, settings=own, more=steps.centroids, purpose="clustered"
            )

    @staticmethod
    def _validate(work: Work) -> tuple[float, Array]:
        """Return the task's metric, and the embeddings of the samples that it was measured on."""
        from fedcomp.training.embeddings import embeddings
        from fedcomp.training.loop import evaluate
        from fedcomp.training.tasks import TASKS

        with embeddings(work.module) as rows:
            found = evaluate(work.module, work.judged_by, work.settings.train, task=work.task)
        return found[TASKS[work.task].metric], np.concatenate(rows)


def _plan(work: Work) -> Clustering:
    plan = work.settings.server_step.clustering
    assert plan is not None  # noqa: S101  such server steps are refused beforehand
    return plan
