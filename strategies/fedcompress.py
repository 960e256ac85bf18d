"""FedCompress at the server: how many clusters, and a clustered student of each average."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedcomp import seeds
from fedcomp.errors import ConfigError, RoundError
from fedcomp.methods import Clustering, ServerStep, StepSettings
from fedcomp.model_size import deflated_bytes, float_bytes
from fedcomp.models.base import load_tensors, read_tensors
from fedcomp.runtime import limited_threads
from fedcomp.tensors import add, subtract
from fedcomp.training.cluster_count import ClusterCount, Controller
from fedcomp.training.clustered import ClusteredSteps, WhichWeights, clustered_weights
from fedcomp.training.distillation import distil
from fedcomp.training.embeddings import width_of
from fedcomp.training.loop import place
from fedcomp.training.representation import effective_rank
from fedcomp.training.score import total
from fedcomp.training.settings import DistillationSettings
from fedcomp.wire.keys import CLUSTERS, DEFLATED, VALIDATION
from strategies.aggregate import strategy_specs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.data.base import Samples
    from fedcomp.setup import Setup
    from fedcomp.tensors import Tensors

log = logging.getLogger(__name__)

FORMULA = (
    "the length of all values as float32 after Deflate, for each client asked: the mean of clients'"
    " trained models, and the model after the round; embeddings cost nothing"
)


class SelfCompression(ServerStep):
    """Scores each round, chooses the number of clusters, and distils the aggregate.

    The teacher is the aggregate, the student a copy of it with clustered weights.
    """

    def __init__(self, setup: Setup, plan: FedCompress) -> None:
        self._setup = setup
        self._plan = plan
        self._controller = Controller(plan.clusters)
        self._names = clustered_weights(setup.module, setup.manifest, plan.weights)
        self._width = width_of(setup.module)
        self._last: dict[str, float] = {}
        self._left: Tensors = {}
        self._spent = {"uplink": 0, "downlink": 0}

    def after_aggregate(
        self,
        model: Tensors,
        side: Mapping[str, Tensors],
        metrics: Mapping[str, float],
        round_number: int,
    ) -> tuple[Tensors, Tensors]:
        """Return the student, and how many clusters clients are to make next."""
        rank = self._rank(side, round_number)
        accuracy = min(max(metrics[VALIDATION], 0.0), 1.0)  # clients may lie, by so much
        clusters = self._controller.record(accuracy, rank)
        self._last = {"representation": rank}
        if self._plan.distillation.epochs:
            whole = add(model, self._left)
            model = self._student(whole, clusters, round_number)
            if self._plan.carry:
                names = [spec.name for spec in strategy_specs(self._setup.manifest)]
                self._left = subtract({n: whole[n] for n in names}, model)
        clients = self._setup.settings.clients_per_round
        deflated = min(max(metrics[DEFLATED], 0.0), 2.0 * float_bytes(model))
        self._spent["uplink"] += round(clients * deflated)
        self._spent["downlink"] += clients * deflated_bytes(model)
        return model, {CLUSTERS: np.array(clusters, np.int16)}

    def _rank(self, side: Mapping[str, Tensors], round_number: int) -> float:
        """Return E of all clients' embeddings."""
        gram, useless = total(side.values(), self._width)
        if gram is None:
            msg = f"round {round_number}: no client sent usable embeddings, which are to be scored"
            raise RoundError(msg)
        if useless:
            log.warning(
                "round %d: %d clients sent embeddings that are of no use", round_number, useless
            )
        return effective_rank(gram)

    def _student(self, model: Tensors, clusters: int, round_number: int) -> Tensors:
        """Return the aggregate with clustered weights that answer as it does."""
        setup, settings = self._setup, self._setup.settings
        student = setup.module
        load_tensors(student, model)
        place(student, settings.train)
        teacher = deepcopy(student)
        threads = limited_threads(settings.engine.cpus_per_client)  # all engines find the same
        with threads, ClusteredSteps(student, self._names, clusters) as steps:
            self._last["distillation_loss"] = distil(
                student,
                teacher,
                self._samples,
                settings=self._plan.distillation,
                placing=settings.train,
                task=setup.dataset.task,
                rng=seeds.generator(settings.seed, round_number, "distillation"),
                before_step=steps.before_step,
                more=steps.centroids,
            )
        return read_tensors(student, setup.manifest)

    @cached_property
    def _samples(self) -> Samples:
        return self._setup.server_samples(self._plan.distillation.samples)

    def report(self) -> dict[str, float]:
        """Return E of the clients' embeddings, and how far the student is from the aggregate."""
        return self._last

    def account(self) -> dict[str, object]:
        """Return what the paper would count, beside what was sent."""
        total = sum(self._spent.values())
        spent = {**self._spent, "total": total, "unit": "byte", "formula": FORMULA}
        return {"clusters": self._controller.clusters, "paper_bytes": spent}

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the rounds so far and what has been spent."""
        found = asdict(self._controller)
        del found["settings"]
        return dict(self._left), {"controller": found, "spent": dict(self._spent)}

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        """Take up a saved state."""
        self._left = dict(arrays)
        self._controller = Controller(self._plan.clusters, **values["controller"])
        self._spent = dict(values["spent"])


@dataclass(frozen=True)
class FedCompress(StepSettings):
    """Average, score, choose the number of clusters, and compress the average by distillation.

    Tsouvalas et al., "Communication-Efficient Federated Learning through Adaptive Weight Clustering
    and Server-Side Distillation", ICASSP 2024, arXiv:2401.14211.

    Parameters
    ----------
    weights
        Which become clusters, see `fedcomp.training.clustered.clustered_weights`.
    clusters
        How many, and when there are more.
    carry
        Whether the next average gets what the student lacks of this one; in the published method
        that is lost.
    distillation
        How the student learns, from `dataset.server_data`; without epochs the average is sent as
        it is.
    """

    name: ClassVar[str] = "fedcompress"
    reports: ClassVar[tuple[str, ...]] = ("representation", "distillation_loss")

    weights: WhichWeights = "auto"
    carry: bool = True
    clusters: ClusterCount = field(default_factory=ClusterCount)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)

    @property
    def clustering(self) -> Clustering:
        """What clients have to know before the first round."""
        return Clustering(self.weights, self.clusters.least)

    def check(self, setup: Setup) -> None:
        """Refuse a model without layers to cluster; find the samples to distil on."""
        names = clustered_weights(setup.module, setup.manifest, self.weights)
        sizes = [setup.manifest.by_name[name].size for name in names]
        if max(sizes, default=0) <= self.clusters.least:
            msg = (
                f"server_step.weights={self.weights}: no layer that is trained has more than"
                f" {self.clusters.least} of these weights (server_step.clusters.least); choose"
                " server_step.weights=all, another model or train.parameters"
            )
            raise ConfigError(msg)
        if self.distillation.epochs:
            setup.server_samples(self.distillation.samples)

    def create(self, setup: Setup) -> ServerStep:
        """Return the step for one run."""
        return SelfCompression(setup, self)
