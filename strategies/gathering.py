"""The start of a deployment: nodes come when they come, and some of them are not fit."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from fedcomp.errors import EngineError
from strategies.handshake import POLL_SECONDS, Handshake, site_order

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from fedcomp.link.ledger import Ledger
    from strategies.admission import Admission
    from strategies.handshake import Introduction

AGAIN_SECONDS = 30.0
"""A node that was refused is asked again after this: it may be mended and have kept its name."""

LATE_SECONDS = 10.0
"""How long others may take to answer once there are enough."""

log = logging.getLogger(__name__)


class Gathering:
    """Collects nodes until there are as many sites as the run has clients."""

    def __init__(self, grid: Grid, handshake: Handshake, admission: Admission) -> None:
        self._grid = grid
        self._handshake = handshake
        self._admission = admission
        self._earlier = admission.sites
        self._sites: dict[int, str] = {}
        self._refused: dict[int, str] = {}
        self._asked: dict[int, float] = {}
        self._said: set[tuple[int, str]] = set()

    def look(self) -> None:
        """Ask those who have come, forget those who have gone, take up the answers."""
        now, there = time.monotonic(), set(self._grid.get_node_ids())
        self._sites = {node: site for node, site in self._sites.items() if node in there}
        self._admission.present(self._earlier.union(self._sites.values()))
        self._refused = {node: why for node, why in self._refused.items() if node in there}
        self._asked = {node: when for node, when in self._asked.items() if node in there}
        idle = there - self._sites.keys() - self._handshake.waiting
        due = [n for n in idle if now >= self._asked.get(n, -AGAIN_SECONDS) + AGAIN_SECONDS]
        self._asked |= dict.fromkeys(due, now)
        self._handshake.ask(due, 0)
        for found in self._handshake.answers(0):
            if reason := self._reason(found):
                self._refuse(found.node, reason)
            else:
                self._refused.pop(found.node, None)
                self._sites[found.node] = found.site
                self._admission.bind(found)  # now: the node may be away when the run starts

    def settle(self, clients: int) -> dict[int, str]:
        """Return the sites that take part, in their order, and refuse the others."""
        ordered = sorted(
            self._sites.items(),
            key=lambda pair: (pair[1] not in self._earlier, site_order(pair[1])),
        )
        taken = sorted(ordered[:clients], key=lambda pair: site_order(pair[1]))
        self._admission.keep([site for _, site in taken])
        for site in sorted(self.missing, key=site_order):
            log.warning("site %s took part in this run before, which now goes on without it", site)
        for node, site in ordered[clients:]:
            self._refuse(node, f"it is site {site}, and the run has its {clients} clients without")
        return dict(taken)

    @property
    def count(self) -> int:
        """How many sites there are."""
        return len(self._sites)

    @property
    def missing(self) -> frozenset[str]:
        """The sites that took part before the run was resumed and are not there."""
        return self._earlier.difference(self._sites.values())

    def reasons(self) -> str:
        """Return who was refused and why, as the end of a sentence."""
        return "".join(f"; node {node} was refused: {why}" for node, why in self._refused.items())

    def _reason(self, found: Introduction) -> str:
        """Return why a node may not take part, nothing if it may."""
        if found.problem:
            return found.problem
        if found.site in self._sites.values():
            return (
                f"it claims site {found.site}, which another one has: give each node a"
                " partition-id or a site of its own"
            )
        return self._admission.refusal(found, ())

    def _refuse(self, node: int, reason: str) -> None:
        self._refused[node] = reason
        if (node, reason) not in self._said:
            self._said.add((node, reason))
            log.warning("node %d is left out: %s", node, reason)


def gather(
    grid: Grid,
    clients: int,
    ledger: Ledger,
    admission: Admission,
    session: bytes,
    timeout: float,
) -> dict[int, str]:
    """Wait for as many sites as the run has clients; return each node's site in their order."""
    began = time.monotonic()
    handshake = Handshake(grid, ledger, session)
    gathering = Gathering(grid, handshake, admission)
    enough = 0.0
    while True:
        gathering.look()
        now = time.monotonic()
        if gathering.count >= clients:
            enough = enough or now
            if gathering.missing:
                is_time = now > began + timeout
            else:
                is_time = not handshake.waiting or now > enough + LATE_SECONDS
            if is_time:
                return gathering.settle(clients)
        elif now > began + timeout:
            msg = (
                f"{gathering.count} of {clients} clients are there after {timeout:g} s"
                f" (engine.start_timeout){gathering.reasons()}"
            )
            raise EngineError(msg)
        time.sleep(POLL_SECONDS)
