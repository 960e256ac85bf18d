"""Learning which node is which client."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from fedcomp.errors import EngineError, RunInterrupted, one_line
from fedcomp.wire import keys
from fedcomp.wire.private import message_bytes
from fedcomp.wire.records import fields_of
from strategies.exchange import Exchange, Sizes
from strategies.requests import push

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from threading import Event

    from flwr.serverapp import Grid

    from fedcomp.link.ledger import Ledger

POLL_SECONDS = 0.05

NONCE_BYTES = 8

_NOT_LOADED = 1
"""Flower's code of errors while the app was imported; it keeps the reason to itself."""


@dataclass(frozen=True)
class Introduction:
    """What a node says of itself: its site, or why it does not say it.

    Attributes
    ----------
    part
        Its part of the common data set, if its data are one.
    """

    node: int
    site: str
    problem: str = ""
    part: int | None = None


class Handshake:
    """Asks nodes for their sites, and books what that costs.

    A question is booked without a client's name, which nobody knows before the answer.

    Parameters
    ----------
    session
        The digest of the run's session, which nodes that say theirs have to have, too.
    """

    def __init__(self, grid: Grid, ledger: Ledger, session: bytes = b"") -> None:
        self._grid = grid
        self._ledger = ledger
        self._session = session
        self._open: dict[str, tuple[int, bytes]] = {}
        self._closed: dict[str, str] = {}

    @property
    def waiting(self) -> set[int]:
        """The nodes that have been asked and have not answered."""
        return {node for node, _ in self._open.values()}

    def ask(self, nodes: Iterable[int], round_number: int) -> set[int]:
        """Ask each node; return those to which no message could be sent."""
        exchange = Exchange(self._ledger, round_number, "handshake")
        failed = set()
        for node in nodes:
            nonce = secrets.token_bytes(NONCE_BYTES)
            content = RecordDict({keys.FIELDS: ConfigRecord({keys.NONCE: nonce})})
            request = Message(content, node, MessageType.QUERY)
            size = message_bytes(request)
            identifier = push(self._grid, request)
            if identifier is None:
                failed.add(node)
                continue
            self._open[identifier] = node, nonce
            exchange.book("", "downlink", "message", "", Sizes(size))
        return failed

    def answers(self, round_number: int) -> Iterator[Introduction]:
        """Yield what nodes have answered since the last call."""
        exchange = Exchange(self._ledger, round_number, "handshake")
        for reply in self._grid.pull_messages(list(self._open)):
            identifier, size = reply.metadata.reply_to_message_id, Sizes(message_bytes(reply))
            if identifier not in self._open:
                site = self._closed.get(identifier, "")
                exchange.book(site, "uplink", "duplicate", "", size)
                continue
            found = _read(*self._open.pop(identifier), reply, self._session)
            self._closed[identifier] = found.site
            kind = "error" if reply.has_error() else "message"
            exchange.book(found.site, "uplink", kind, "", size)
            yield found


def meet(grid: Grid, clients: int, ledger: Ledger, stop: Event, timeout: float) -> dict[int, str]:
    """Wait for all clients and return each node's site, in the order of the sites.

    Flower starts the server before its nodes are there, and names nodes at random; strategies are
    to see the same clients in the same order in every run.
    """
    deadline = time.monotonic() + timeout
    nodes: list[int] = []
    while len(nodes) < clients:
        _check(stop, deadline, f"{len(nodes)} of {clients} clients are connected", timeout)
        nodes = list(grid.get_node_ids())
        if len(nodes) < clients:
            time.sleep(POLL_SECONDS)
    handshake = Handshake(grid, ledger)
    if failed := handshake.ask(nodes, 0):
        msg = f"nothing can be sent to {len(failed)} of {len(nodes)} clients: see Flower's log"
        raise EngineError(msg)
    sites: dict[int, str] = {}
    while handshake.waiting:
        _check(stop, deadline, f"{len(sites)} of {clients} clients have answered", timeout)
        before = len(sites)
        for found in handshake.answers(0):
            if found.problem:
                msg = f"a client could not start: {found.problem}"
                raise EngineError(msg)
            sites[found.node] = found.site
        if len(sites) == before:
            time.sleep(POLL_SECONDS)
    if len(set(sites.values())) < len(sites):
        msg = f"several nodes claim the same partition: {sorted(sites.values())}"
        raise EngineError(msg)
    return dict(sorted(sites.items(), key=lambda pair: site_order(pair[1])))


def site_order(site: str) -> tuple[int, str]:
    """Return what sorts sites that are numbers as numbers."""
    return len(site), site


def _read(node: int, nonce: bytes, reply: Message, session: bytes) -> Introduction:
    if reply.has_error():
        reason = one_line(reply.error.reason or "")
        if reply.error.code == _NOT_LOADED:
            reason += ": its SuperNode needs fedcomp, installed in the same Python environment"
        return Introduction(node, "", reason or "an error without a reason")
    fields = fields_of(reply.content)
    site, problem = fields.get(keys.SITE), fields.get(keys.PROBLEM)
    if isinstance(problem, str):
        return Introduction(node, "", one_line(problem) or "a problem without a name")
    if fields.get(keys.NONCE) != nonce:
        return Introduction(node, "", "its answer is not one to the question that it was asked")
    if not (isinstance(site, str) and keys.SITE_NAME.fullmatch(site)):
        return Introduction(node, "", one_line(f"it names {site!r} as its partition"))
    if session and fields.get(keys.SESSION, session) != session:
        reason = (
            "its model is another one: its data have other classes or shapes, or the weights that"
            " the part which is not trained starts from are others"
        )
        return Introduction(node, "", f"site {site}: {reason}")
    part = fields.get(keys.PARTITION)
    return Introduction(node, site, part=part if isinstance(part, int) else None)


def _check(stop: Event, deadline: float, state: str, timeout: float) -> None:
    if stop.is_set():
        raise RunInterrupted
    if time.monotonic() > deadline:
        msg = f"{state} after {timeout:g} s (engine.start_timeout): see run.log in the run folder"
        raise EngineError(msg)
