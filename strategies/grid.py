"""The server's seam to Flower: a grid that compresses what passes through it.

It wraps any grid and looks like one, so that any strategy works behind it: messages leave as
packets, replies come back as the arrays that the strategy expects.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Message

from fedcomp.errors import DivergedError, RunInterrupted
from fedcomp.wire import keys
from fedcomp.wire.sizes import MessageSizer
from strategies.exchange import Exchange, Sizes
from strategies.forward import ForwardingGrid
from strategies.replies import accept, refuse_odd_metrics
from strategies.requests import pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from threading import Event

    from flwr.serverapp import Grid

    from fedcomp.link.ledger import Ledger, Purpose
    from fedcomp.link.server import ServerLink

POLL_SECONDS = 0.01


class CompressingGrid(ForwardingGrid):
    """Send packets instead of arrays, and book every one of them.

    Parameters
    ----------
    inner
        Flower's grid.
    link
        The server's end of all links.
    sites
        Which site a node is, in the order in which strategies are to see them.
    stop
        Set when the run is to end now.
    """

    def __init__(
        self, inner: Grid, link: ServerLink, ledger: Ledger, sites: Mapping[int, str], stop: Event
    ) -> None:
        super().__init__(inner)
        self._link = link
        self._ledger = ledger
        self._sites = dict(sites)
        self._stop = stop
        self._pending: dict[str, Message] = {}
        self._resent: dict[str, str] = {}
        self._size = MessageSizer()
        self.exchange = Exchange(ledger, 0, "train")

    def open(self, round_number: int, purpose: Purpose) -> Exchange:
        """Begin the account of one exchange; replies to earlier ones are not waited for."""
        self._pending.clear()
        self._resent.clear()
        self._link.begin()
        self.exchange = Exchange(self._ledger, round_number, purpose)
        return self.exchange

    def get_node_ids(self) -> list[int]:
        """Return the connected nodes in the order of their sites; strategies may wait here."""
        if self._stop.is_set():
            raise RunInterrupted
        connected = set(self._inner.get_node_ids())
        return [node for node in self._sites if node in connected]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send each message with a packet in place of its arrays."""
        requests = list(messages)
        parts = self.exchange, self._link
        packed = [pack(*parts, self._site(request), request, self._size) for request in requests]
        identifiers = list(self._inner.push_messages(packed))
        self._pending.update(zip(identifiers, requests, strict=True))
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the valid replies that have arrived, decoded."""
        wanted = [self._resent.get(identifier, identifier) for identifier in message_ids]
        valid = []
        for reply in self._inner.pull_messages([i for i in wanted if i in self._pending]):
            request = self._pending.pop(reply.metadata.reply_to_message_id)
            if self._receive(request, reply):
                valid.append(reply)
        return valid

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Exchange messages; return the valid replies in the order of their sites."""
        identifiers = self.push_messages(messages)
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while self._pending and time.monotonic() < deadline:
            if self._stop.is_set():
                raise RunInterrupted
            if not self.pull_messages(identifiers):
                time.sleep(POLL_SECONDS)
        for request in self._pending.values():
            self.exchange.fail(self._site(request), f"no answer within {timeout} s")
        refuse_odd_metrics(self.exchange)
        replies = self.exchange.replies
        return [replies[site] for site in self._sites.values() if site in replies]

    def _site(self, request: Message) -> str:
        return self._sites[request.metadata.dst_node_id]

    def _receive(self, request: Message, reply: Message) -> bool:
        """Decode a reply in place; tell whether the strategy may have it."""
        site = self._site(request)
        size = self._size(reply)
        if reply.has_error():
            self.exchange.book(site, "uplink", "error", "", Sizes(size))
            self.exchange.fail(site, reply.error.reason or "an error without a reason")
            return False
        fields = reply.content.config_records.get(keys.FIELDS, ConfigRecord())
        if keys.NACK in fields:
            self.exchange.book(site, "uplink", "nack", "", Sizes(size))
            if keys.DIVERGED in fields and self._link.session.link.verify:
                raise DivergedError(str(fields[keys.NACK]))
            refused = reply.metadata.reply_to_message_id
            return self._send_keyframe(site, request, refused, str(fields[keys.NACK]))
        try:
            accept(self.exchange, self._link, site, reply, size)
        except DivergedError:
            raise
        except Exception as error:
            self.exchange.fail(site, f"the reply is refused: {error}")
            return False
        return True

    def _send_keyframe(self, site: str, request: Message, refused: str, reason: str) -> bool:
        """Answer a NACK at once, in the same exchange; a second one is a failure."""
        if site in self.exchange.keyframed:
            self.exchange.fail(site, f"the client refuses a keyframe too: {reason}")
            return False
        self.exchange.keyframed.add(site)
        self._link.forget(site)
        (self._resent[refused],) = self.push_messages([request])
        return False
