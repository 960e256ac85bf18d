"""What the round loop tells of a run, and to whom."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fedcomp.link.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.link.ledger import Entry, Ledger
    from fedcomp.tensors import Tensors


@dataclass(frozen=True)
class RunStart:
    """What is known before the first round.

    Attributes
    ----------
    resumed
        The round at which a run goes on; its training is over, its result comes first.
    """

    parameters: int
    metric: str
    ledger: Ledger
    resumed: int = 0


@dataclass(frozen=True)
class Trained:
    """A round up to its new version, which is not measured yet; round 0 is the initial model.

    Attributes
    ----------
    reports
        What the recipe reports, averaged over the clients of the round, and the server step.
    uplink, downlink
        How dense the replies are, and the packet of the version that the round made.
    account
        What the server step adds to the summary, over all rounds so far.
    network_seconds
        On the simulated network; None where there is none.
    """

    round: int
    reports: Mapping[str, float] = field(default_factory=dict)
    uplink: Rate | None = None
    downlink: Rate | None = None
    account: Mapping[str, object] = field(default_factory=dict)
    clients: int = 0
    failures: int = 0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    train_seconds: float = 0.0
    wall_seconds: float = 0.0
    network_seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the round as values for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Trained:
        """Read what `to_json` returned."""
        made = {n: Rate(**values[n]) if values[n] else None for n in ("uplink", "downlink")}
        return cls(**{**values, **made})


@dataclass(frozen=True, kw_only=True)
class RoundResult(Trained):
    """A whole round.

    Attributes
    ----------
    metrics
        Loss and metrics of the public model on the test set, and of a federated evaluation under
        names that start with `federated_`.
    entries
        All packets since the last round's end.
    """

    metrics: Mapping[str, float]
    entries: list[Entry] = field(repr=False)


class Observer:
    """Somebody who follows a run."""

    def on_start(self, start: RunStart) -> None:
        """Before the first round."""

    def on_round(self, result: RoundResult) -> None:
        """After every round, also after round 0."""

    def on_end(self, model: Tensors) -> None:
        """At the end, also at an early one; gets the final public model."""
