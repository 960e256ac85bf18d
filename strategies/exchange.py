"""The account of one exchange: replies, failures, seconds, and the ledger's rows."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.link.ledger import Entry, Ledger
from fedcomp.tensors import Kind

if TYPE_CHECKING:
    from flwr.app import Message

    from fedcomp.codecs.base import Direction
    from fedcomp.link.ledger import Purpose
    from fedcomp.tensors import Manifest, Tensors

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
    buffers: dict[str, Tensors] = field(default_factory=dict)
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

    def fail(self, site: str, reason: str) -> None:
        """Note that a site gave no usable reply; of a traceback only the last line is kept."""
        lines = [line.strip() for line in reason.splitlines() if line.strip()]
        self.failures[site] = lines[-1] if lines else "no reason was given"
        log.warning("round %d: site %s failed: %s", self.round, site, reason)


def split(model: Tensors, manifest: Manifest) -> tuple[Tensors, Tensors]:
    """Divide a model in what the strategy aggregates, and the buffers that go round it."""
    around = (Kind.BUFFER, Kind.COUNTER)
    aside = {name: model[name] for name, s in manifest.by_name.items() if s.kind in around}
    return {name: value for name, value in model.items() if name not in aside}, aside


def join(
    aggregate: Tensors, exchange: Exchange, examples: dict[str, float], old: Tensors
) -> Tensors:
    """Put buffers back beside an aggregate, in the order and the dtypes of the old model.

    Buffers are averaged by the number of examples; of counters the largest one counts.
    """
    total = sum(examples.values())
    out: Tensors = {}
    for name, value in old.items():
        if name in aggregate:
            out[name] = aggregate[name].astype(value.dtype, copy=False).reshape(value.shape)
            continue
        found = {site: buffers[name] for site, buffers in exchange.buffers.items()}
        if value.dtype.kind == "f":
            mean = sum(found[site].astype(np.float64) * examples[site] for site in found) / total
            out[name] = np.asarray(mean, dtype=value.dtype)
        else:
            out[name] = np.asarray(np.max(list(found.values()), axis=0), dtype=value.dtype)
    return out
