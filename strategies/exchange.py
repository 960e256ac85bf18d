"""The account of one exchange: replies, failures, seconds, and the ledger's rows."""

from __future__ import annotations

import gc
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.link.ledger import Entry, Ledger
from fedcomp.link.rate import Rate
from fedcomp.wire import keys
from strategies.clock import Spent

if TYPE_CHECKING:
    from collections.abc import Callable
    from weakref import ReferenceType

    from flwr.app import ArrayRecord, Message

    from fedcomp.codecs.base import Direction
    from fedcomp.link.ledger import Purpose
    from fedcomp.link.received import Received
    from fedcomp.methods import Lookup
    from fedcomp.tensors import Manifest, Tensors

log = logging.getLogger(__name__)

LARGE = 4_000_000
"""Of models with more weights than that it is worth 0.2 s to let go at once of what replies hold,
the models they were trained from: views of Flower's records are cycles, freed by the collector."""

MOST_SHOWN = 4000
"""Characters of a reason that are written to the log: clients choose how long theirs are."""

MOST_REPEATED = 500
"""Of its last line as many are repeated where the run ends because of it."""


def unchanged(model: Lookup) -> Lookup:
    """Let strategies see a model as it is, like `ServerStep.view` unless a method overrides it."""
    return model


@dataclass(frozen=True)
class Sizes:
    """The sizes of one message and what it carries."""

    message: int
    payload: int = 0
    packet: int = 0
    side: int = 0


@dataclass
class Exchange:
    """One round of messages of one purpose, and what came back of it by site.

    Attributes
    ----------
    view
        Turns a model, the link's or a reply's, into what the strategy sees of it.
    used, rate, reports
        Whose replies there were, how dense they were, and their metrics on average, once they have
        been let go of.
    asked
        Who got a message; a second one is not sent.
    spent
        What each client's part was, by site.
    server_seconds
        Of the server's own work on replies.
    network_seconds
        How long the exchange takes on the simulated network, once it has ended.
    broadcast
        The strategy's record that was last found to be the model that the link broadcasts.
    """

    ledger: Ledger
    round: int
    purpose: Purpose
    view: Callable[[Lookup], Lookup] = unchanged
    replies: dict[str, Message] = field(default_factory=dict)
    received: dict[str, Received] = field(default_factory=dict)
    side: dict[str, Tensors] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    used: tuple[str, ...] = ()
    rate: Rate | None = None
    reports: dict[str, float] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    broadcast: ReferenceType[ArrayRecord] | None = None
    keyframed: set[str] = field(default_factory=set)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    spent: defaultdict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))
    server_seconds: float = 0.0
    network_seconds: float = 0.0

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
        spent = self.spent[site]
        if direction == "uplink":
            spent.up_bytes += sizes.message
        else:
            spent.down_bytes += sizes.message

        def add(purpose: Purpose, payload: int, packet: int, message: int, spent: float) -> None:
            head = (self.round, site, direction, purpose, kind, codec)
            self.ledger.add(Entry(*head, payload, packet, message, spent))

        add(self.purpose, sizes.payload, sizes.packet - sizes.side, sizes.message, seconds)
        if sizes.side:
            purpose: Purpose = "evaluate" if self.purpose == "evaluate" else "side"
            add(purpose, 0, sizes.side, 0, 0.0)

    def release(self, manifest: Manifest) -> None:
        """Let go of replies once they have been used; who keeps some finds them as they were."""
        self.used = tuple(self.replies)
        received = [self.received[site] for site in self.used]
        self.rate = Rate.of(manifest, [(r.payload_bytes, r.moved) for r in received])
        metrics = [reply.content.metric_records[keys.METRICS] for reply in self.replies.values()]
        names = [name for name in (metrics[0] if metrics else ()) if name != keys.EXAMPLES]
        self.reports = {name: float(np.mean([m[name] for m in metrics])) for name in names}
        self.replies, self.received, self.side = {}, {}, {}
        if manifest.elements > LARGE:
            gc.collect()

    def fail(self, site: str, reason: str) -> None:
        """Note that a site gave no usable reply; of a traceback only the last line is kept."""
        self.ledger.failures += site not in self.failures
        lines = readable(reason)
        self.failures[site] = lines[-1].strip()[:MOST_REPEATED]
        log.warning("round %d: site %s failed: %s", self.round, site, "\n    ".join(lines))


def readable(text: str) -> list[str]:
    r"""Return the end of what a client says, without what a terminal would take for commands.

    Examples
    --------
    >>> readable("Traceback:\r\n  in f\n\nOSError: \x1b[31mno\n"), readable(" ")
    (['Traceback:', '  in f', 'OSError: ?[31mno'], ['no reason was given'])
    """
    lines = [line.rstrip() for line in text[-MOST_SHOWN:].splitlines() if line.strip()]
    plain = ["".join(c if c.isprintable() else "?" for c in line) for line in lines]
    return plain or ["no reason was given"]
