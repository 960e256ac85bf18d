"""Which node is which site while nodes come, go, and come back under another id."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from fedcomp.errors import LinkError, RunInterrupted
from strategies.handshake import POLL_SECONDS, Handshake, Introduction, site_order

if TYPE_CHECKING:
    from collections.abc import Mapping
    from threading import Event

    from flwr.serverapp import Grid

    from fedcomp.link.ledger import Ledger
    from strategies.admission import Admission

WAIT_SECONDS = 5.0
"""How long a round waits for a newcomer's first answer; a later one counts from then on."""

log = logging.getLogger(__name__)


class Roster:
    """Knows all nodes that ever said which site they are, and for each site the one that counts.

    Parameters
    ----------
    sites
        What the nodes that were there at the start said, in the order of the sites.
    admission
        Decides who else may take part, in a deployment.
    session
        The digest of the run's session.
    """

    def __init__(
        self,
        grid: Grid,
        ledger: Ledger,
        sites: Mapping[int, str],
        stop: Event,
        admission: Admission | None = None,
        session: bytes = b"",
    ) -> None:
        self._grid = grid
        self._handshake = Handshake(grid, ledger, session)
        self._admission = admission
        self._stop = stop
        self._claims = dict(sites)
        self._nodes = {site: node for node, site in sites.items()}
        self._spare: dict[int, str] = {}
        self._found: dict[int, Introduction] = {}
        self._round = 0
        self._asked: set[int] = set()
        self._awaited: set[int] = set()
        self._refused: set[int] = set()
        self._there: set[int] = set(sites)
        self._barred: set[int] = set()

    def begin(self, round_number: int) -> None:
        """Begin an exchange: nodes that have not answered are asked again when they are seen."""
        self._round = round_number
        self._asked.clear()

    def site(self, node: int) -> str:
        """Return the site of a node, be it there or not."""
        if node not in self._claims:
            msg = (
                f"the strategy's message goes to node {node}, which never said which client it is:"
                " a strategy takes nodes from grid.get_node_ids()"
            )
            raise LinkError(msg)
        return self._claims[node]

    def sites(self) -> list[str]:
        """Return all sites in their order."""
        return list(self._nodes)

    def absent(self) -> list[str]:
        """Return the sites whose node was not there when it was last asked who is."""
        return [site for site, node in self._nodes.items() if node not in self._there]

    def connected(self) -> list[int]:
        """Return the nodes that are there in the order of their sites; newcomers are asked."""
        there = list(self._grid.get_node_ids())
        known = self._claims.keys() | self._asked | self._barred
        new = [node for node in there if node not in known]
        if new:
            self._ask(new)
        if self._handshake.waiting:
            self._listen()
        self._there = present = set(there)
        self._assign(present)
        return [node for node in self._nodes.values() if node in present]

    def _ask(self, new: list[int]) -> None:
        """Ask new nodes; those asked for the first time get a moment to answer."""
        self._asked.update(new)
        failed = self._handshake.ask(new, self._round)
        for node in failed:
            log.warning("node %d is new and cannot be asked for its site", node)
        first = set(new) - failed - self._awaited
        self._awaited |= first
        deadline = time.monotonic() + WAIT_SECONDS
        while first & self._handshake.waiting and time.monotonic() < deadline:
            if self._stop.is_set():
                raise RunInterrupted
            self._listen()
            time.sleep(POLL_SECONDS)

    def _listen(self) -> None:
        for found in self._handshake.answers(self._round):
            if found.problem:
                log.warning("node %d is new and does not take part: %s", found.node, found.problem)
            elif reason := self._bar(found):
                log.warning("node %d is left out: %s", found.node, reason)
            elif found.node not in self._claims:  # else asked again before it answered
                self._claims[found.node] = found.site
                self._spare[found.node] = found.site
                self._found[found.node] = found

    def _bar(self, found: Introduction) -> str:
        """Return why a node may not be a site; it is not asked again then."""
        reason = self._admission.refusal(found, self._nodes) if self._admission else ""
        if reason:
            self._barred.add(found.node)
        return reason

    def _assign(self, present: set[int]) -> None:
        """Give sites whose node is gone, or that have none, to nodes that claim them."""
        for node, site in list(self._spare.items()):
            holder = self._nodes.get(site)
            if node not in present:
                continue
            if holder in present:
                self._refuse(node, site)
                continue
            log.info("site %s is node %d from now on", site, node)
            if self._admission is not None:
                self._admission.bind(self._found.get(node) or Introduction(node, site))
            del self._spare[node]
            if holder is not None:
                self._spare[holder] = site
            self._nodes[site] = node
            self._nodes = dict(sorted(self._nodes.items(), key=lambda pair: site_order(pair[0])))

    def _refuse(self, node: int, site: str) -> None:
        """Say once that a site is taken; the node gets it when the other one is gone."""
        if node not in self._refused:
            self._refused.add(node)
            log.warning(
                "node %d claims site %s, which another one has: it is left out while that one is"
                " there; give each client a partition-id of its own",
                node,
                site,
            )
