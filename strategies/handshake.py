"""Learning which node is which client, before the first round."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flwr.app import Message, MessageType, RecordDict

from fedcomp.errors import EngineError, RunInterrupted
from fedcomp.wire import keys
from fedcomp.wire.private import message_bytes
from strategies.exchange import Exchange, Sizes

if TYPE_CHECKING:
    from threading import Event

    from flwr.serverapp import Grid

    from fedcomp.link.ledger import Ledger

_POLL_SECONDS = 0.05


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
            time.sleep(_POLL_SECONDS)
    exchange = Exchange(ledger, 0, "handshake")
    requests = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
    sizes = [message_bytes(request) for request in requests]
    pending = dict(zip(grid.push_messages(requests), nodes, strict=True))
    sites: dict[int, str] = {}
    while pending:
        _check(stop, deadline, f"{len(sites)} of {clients} clients have answered", timeout)
        replies = list(grid.pull_messages(list(pending)))
        for reply in replies:
            node = pending.pop(reply.metadata.reply_to_message_id)
            if reply.has_error():
                msg = f"a client could not start: {reply.error.reason}"
                raise EngineError(msg)
            site = str(reply.content.config_records[keys.FIELDS][keys.SITE])
            exchange.book(site, "uplink", "message", "", Sizes(message_bytes(reply)))
            sites[node] = site
        if not replies:
            time.sleep(_POLL_SECONDS)
    if len(set(sites.values())) < len(sites):
        msg = f"several nodes claim the same partition: {sorted(sites.values())}"
        raise EngineError(msg)
    for node, size in zip(nodes, sizes, strict=True):
        exchange.book(sites[node], "downlink", "message", "", Sizes(size))
    return dict(sorted(sites.items(), key=lambda pair: (len(pair[1]), pair[1])))


def _check(stop: Event, deadline: float, state: str, timeout: float) -> None:
    if stop.is_set():
        raise RunInterrupted
    if time.monotonic() > deadline:
        msg = f"{state} after {timeout:g} s (engine.start_timeout): see run.log in the run folder"
        raise EngineError(msg)
