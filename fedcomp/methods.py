"""What a method adds to federated averaging: a recipe for clients, a step for the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from fedcomp.registry import Registry
from fedcomp.wire.keys import TRAIN_LOSS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from torch import nn

    from fedcomp.data.base import Samples
    from fedcomp.link.client import ClientLink
    from fedcomp.link.update import Update
    from fedcomp.settings import Settings
    from fedcomp.setup import Setup
    from fedcomp.tensors import Array, Manifest, Tensors
    from fedcomp.training.clustered import WhichWeights

    Lookup: TypeAlias = Callable[[str], Array]


@dataclass(frozen=True)
class Work:
    """One round's work of one client.

    Attributes
    ----------
    module
        Holds the received model; a recipe may do with it what it likes.
    link
        What was received, and `quantise` for a recipe that trains on lossy weights.
    config
        What the strategy sent beside the model.
    prunable
        Names the tensors that may become sparse.
    """

    module: nn.Module
    train: Samples
    validation: Samples
    task: str
    settings: Settings
    link: ClientLink
    round: int
    client: int
    config: dict[str, object]
    prunable: Callable[[], list[str]]

    @property
    def judged_by(self) -> Samples:
        """What a model is measured on: of a client with few samples, those that it trains on."""
        return self.validation if len(self.validation) else self.train

    def tensors(self) -> Tensors:
        """Return the module's tensors that travel, as they are now."""
        from fedcomp.models.base import read_tensors

        return read_tensors(self.module, self.link.session.manifest)


@dataclass(frozen=True)
class Answer:
    """What a recipe made: trained tensors, or an update that it quantised itself; and metrics."""

    tensors: Tensors | Update = field(repr=False)
    metrics: dict[str, float]
    side: Tensors = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Recipe(ABC):
    """Local training under the name of its method; keeps no state of its own.

    Attributes
    ----------
    reports
        Names of the metrics that `fit` returns; their means are columns of `rounds.csv`.
    keeps_background
        Whether it trains `ClientLink.background`, the model and what its codec has left out so far,
        in the place of the model; then `link.feedback=auto` keeps that in any mode of the uplink.
    """

    name: ClassVar[str]
    reports: ClassVar[tuple[str, ...]] = (TRAIN_LOSS,)
    keeps_background: ClassVar[bool] = False

    def attach(self, module: nn.Module) -> None:  # noqa: B027  most methods add nothing
        """Add to a new module what the method trains beside the module's own parameters."""

    def export(self, tensors: Tensors) -> Tensors:
        """Return the tensors of the plain model, which knows nothing of `attach`."""
        return tensors

    @abstractmethod
    def fit(self, work: Work) -> Answer:
        """Train, and return what is to be sent."""


class ServerStep(ABC):
    """What a method does to the aggregate of a round, after any strategy."""

    def view(self, model: Lookup) -> Lookup:
        """Return a model, by tensor, as strategies are to see it; the aggregate comes back so."""
        return model

    def account(self) -> dict[str, object]:
        """Return what the method adds to `summary.json`."""
        return {}

    def report(self) -> dict[str, float]:
        """Return what is to be seen of the last round."""
        return {}

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the state between two rounds as arrays and as values for JSON."""
        return {}, {}

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:  # noqa: B027  most keep none
        """Take up a saved state."""

    @abstractmethod
    def after_aggregate(
        self,
        model: Tensors,
        side: Mapping[str, Tensors],
        metrics: Mapping[str, float],
        round_number: int,
    ) -> tuple[Tensors, Tensors]:
        """Return the model to publish and the side information to send with it.

        Parameters
        ----------
        model
            The aggregate, in the form that `view` gives.
        side
            By site, what its reply carried beside the model.
        metrics
            The replies' metrics, aggregated by the strategy.
        """


class Clustering(NamedTuple):
    """Which weights become clusters, and how many clusters a layer has in the first round."""

    weights: WhichWeights
    least: int


@dataclass(frozen=True)
class StepSettings(ABC):
    """A server step by name, and its settings.

    Attributes
    ----------
    reports
        Names of what `ServerStep.report` returns; columns of `rounds.csv`.
    """

    name: ClassVar[str]
    reports: ClassVar[tuple[str, ...]] = ()

    @property
    def clustering(self) -> Clustering | None:
        """What clients have to know of a model that is to consist of clusters."""
        return None

    def misfits(self, manifest: Manifest) -> list[str]:  # noqa: ARG002
        """Say what the step cannot do with a model."""
        return []

    def check(self, setup: Setup) -> None:  # noqa: B027  most need nothing
        """Raise `ConfigError` or `DataError` where the step cannot do with a run's parts."""

    def sparsity(self, round_number: int, rounds: int) -> float:  # noqa: ARG002
        """Return which share of the weights is to be zero after a round."""
        return 0.0

    def drops_zeros(self, round_number: int) -> bool:  # noqa: ARG002
        """Tell whether weights that a round's model has at zero go back to it whatever is sent."""
        return False

    @abstractmethod
    def create(self, setup: Setup) -> ServerStep:
        """Return the step for one run."""


RECIPES: Registry[type[Recipe]] = Registry(
    "recipe",
    {
        "deepcabac": "clients.deepcabac:DeepCabac",
        "ecq": "clients.ecq:Ecq",
        "ecqx": "clients.ecq:EcqX",
        "feddip": "clients.feddip:FedDip",
        "fedcompress": "clients.fedcompress:FedCompress",
        "fsfl": "clients.fsfl:Fsfl",
        "local": "clients.local:LocalTraining",
        "masked": "clients.masked:MaskedTraining",
        "snip": "clients.snip:Snip",
        "subspace": "clients.subspace:SubspaceTraining",
    },
)
SERVER_STEPS: Registry[type[StepSettings]] = Registry(
    "server step",
    {
        "fedcompress": "strategies.fedcompress:FedCompress",
        "feddip": "strategies.feddip:FedDip",
        "fsfl": "strategies.fsfl:Averaging",
        "majority": "strategies.majority:Majority",
        "none": "strategies.no_step:NoStep",
        "snip": "strategies.snip:Snip",
    },
)
