"""The account of one exchange: replies, failures, seconds, and the ledger's rows."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import RecordDict

from fedcomp.link.feedback import FIXED
from fedcomp.link.ledger import Entry, Ledger

if TYPE_CHECKING:
    from flwr.app import Message

    from fedcomp.codecs.base import Direction
    from fedcomp.link.ledger import Purpose
    from fedcomp.link.received import Received
    from fedcomp.tensors import Manifest, Tensors, TensorSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sizes:
    """The sizes of one message and what it carries."""

    message: int
    payload: int = 0
    packet: int = 0
    side: int = 0


@dataclass
class Exchange:
    """One round of messages of one purpose, and what came back of it by site."""

    ledger: Ledger
    round: int
    purpose: Purpose
    replies: dict[str, Message] = field(default_factory=dict)
    received: dict[str, Received] = field(default_factory=dict)
    side: dict[str, Tensors] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    keyframed: set[str] = field(default_factory=set)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def book(
        self,
        site: str,
        direction: Direction,
        kind: str,
        codec: str,
        sizes: Sizes,
        seconds: float = 0.0,
    ) -> None:
        """Book a message; its side information is a row of its own."""

        def add(purpose: Purpose, payload: int, packet: int, message: int, spent: float) -> None:
            head = (self.round, site, direction, purpose, kind, codec)
            self.ledger.add(Entry(*head, payload, packet, message, spent))

        add(self.purpose, sizes.payload, sizes.packet - sizes.side, sizes.message, seconds)
        if sizes.side:
            purpose: Purpose = "evaluate" if self.purpose == "evaluate" else "side"
            add(purpose, 0, sizes.side, 0, 0.0)

    def release(self) -> None:
        """Let go of what replies hold, once their content has been used."""
        self.received.clear()
        for reply in self.replies.values():
            reply.content = RecordDict()

    def fail(self, site: str, reason: str) -> None:
        """Note that a site gave no usable reply; of a traceback only the last line is kept."""
        lines = [line.strip() for line in reason.splitlines() if line.strip()]
        self.failures[site] = lines[-1] if lines else "no reason was given"
        log.warning("round %d: site %s failed: %s", self.round, site, reason)


def strategy_specs(manifest: Manifest) -> list[TensorSpec]:
    """Return the tensors that the strategy aggregates; buffers and counters go round it."""
    return [spec for spec in manifest.specs if spec.kind not in FIXED]


def join(
    aggregate: Tensors, exchange: Exchange, examples: dict[str, float], old: Tensors
) -> Tensors:
    """Put buffers back beside an aggregate, in the order and the dtypes of the old model.

    Buffers are averaged by the number of examples; of counters the largest one counts.
    """
    around = {name: value for name, value in old.items() if name not in aggregate}
    means = {n: np.zeros(v.shape) for n, v in around.items() if v.dtype.kind == "f"}
    largest: Tensors = {}
    total = sum(examples.values())
    for site, received in exchange.received.items():
        for name in around:
            value = received.tensor(name)
            if name in means:
                means[name] += value.astype(np.float64) * (examples[site] / total)
            else:
                largest[name] = np.maximum(largest.get(name, value), value)
    found = {**aggregate, **means, **largest}
    return {
        name: np.asarray(found[name]).astype(value.dtype, copy=False).reshape(value.shape)
        for name, value in old.items()
    }
