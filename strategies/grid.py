"""The server's seam to Flower: a grid that compresses what passes through it.

It wraps any grid and looks like one, so that any strategy works behind it: messages leave as
packets, replies come back as the arrays that the strategy expects.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from fedcomp.errors import RoundError, RunInterrupted
from fedcomp.wire.sizes import message_size
from strategies.exchange import Exchange, unchanged
from strategies.forward import ForwardingGrid
from strategies.mailbox import Letter, Mailbox
from strategies.nacks import is_nack, needs_keyframe
from strategies.replies import discard, judge, refuse_odd_metrics, work_seconds
from strategies.requests import send
from strategies.roster import Roster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from threading import Event

    from flwr.app import Message
    from flwr.serverapp import Grid

    from fedcomp.link.ledger import Ledger, Purpose
    from fedcomp.link.server import ServerLink
    from fedcomp.methods import Lookup
    from strategies.admission import Admission
    from strategies.clock import Clock

POLL_SECONDS = 0.01

LEAST_PATIENCE = 5.0
"""Seconds that a strategy may wait for clients however short `engine.round_timeout` is."""

log = logging.getLogger(__name__)


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
    view
        What strategies are to see of a model.
    admission
        Decides who may take part, in a deployment.
    clock
        Says how long exchanges take on a simulated network, and who is late.
    """

    def __init__(
        self,
        inner: Grid,
        link: ServerLink,
        ledger: Ledger,
        sites: Mapping[int, str],
        stop: Event,
        view: Callable[[Lookup], Lookup] = unchanged,
        admission: Admission | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(inner)
        self._link = link
        self._ledger = ledger
        self._stop = stop
        self._roster = Roster(inner, ledger, sites, stop, admission, link.session.digest)
        self._mail = Mailbox()
        self._view = view
        self.clock = clock
        self._held: dict[str, Message] = {}
        self._patience = float("inf")
        self._waits_until: float | None = None
        self.exchange = Exchange(ledger, 0, "train", view)

    def open(self, round_number: int, purpose: Purpose, patience: float = float("inf")) -> Exchange:
        """Begin the account of one exchange; replies to earlier ones are not waited for.

        Parameters
        ----------
        patience
            Seconds that the strategy may wait for clients before it asks some.
        """
        self._patience, self._waits_until = patience, None
        self._mail.begin()
        self._roster.begin(round_number)
        self._link.begin()
        self.exchange = Exchange(self._ledger, round_number, purpose, self._view)
        return self.exchange

    def get_node_ids(self) -> list[int]:
        """Return the connected nodes in the order of their sites; strategies may wait here."""
        if self._stop.is_set():
            raise RunInterrupted
        if self._waits_until is not None and time.monotonic() > self._waits_until:
            total = len(self._roster.sites())
            msg = (
                f"round {self.exchange.round}: the strategy has waited for clients for longer than"
                f" engine.round_timeout={self._patience:g}, and"
                f" {total - len(self._roster.absent())} of {total} are connected"
            )
            raise RoundError(msg)
        found = self._roster.connected()
        if self._waits_until is None:
            self._waits_until = time.monotonic() + max(self._patience, LEAST_PATIENCE)
        return found

    def miss(self, count: int) -> None:
        """Note that the strategy asked so many clients too few, as far as some are not there."""
        for site in self._roster.absent()[: max(count, 0)]:
            self.exchange.fail(site, "its node is not connected")

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send each message with a packet in place of its arrays; return the ids of those sent."""
        identifiers = []
        for request in messages:
            site = self._roster.site(request.metadata.dst_node_id)
            if site in self.exchange.asked:
                log.warning("site %s is asked twice at once; the second message is left out", site)
                continue
            self.exchange.asked.add(site)
            identifiers += self._send(site, request)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the valid replies that have arrived, decoded."""
        if self._has_deadline:
            msg = (
                "network.deadline needs all replies at once, and the strategy pulls single ones: it"
                " has to call send_and_receive"
            )
            raise RoundError(msg)
        return self._pull(message_ids)

    @property
    def _has_deadline(self) -> bool:
        return self.clock is not None and self.clock.network.deadline is not None

    def _pull(self, message_ids: Iterable[str]) -> list[Message]:
        valid = []
        wanted = [*self._mail.waiting(message_ids), *self._mail.overdue()]
        for reply in self._inner.pull_messages(wanted) if wanted else ():
            identifier = reply.metadata.reply_to_message_id
            letter = self._mail.take(identifier)
            if letter is None:
                log.warning("a reply to a message that was never sent is left out")
            elif letter.request is None:
                account = Exchange(self._ledger, self.exchange.round, letter.purpose)
                discard(account, letter.site, reply, letter.unused)
            elif is_nack(reply):
                if needs_keyframe(self.exchange, self._link, letter.site, reply):
                    self._send(letter.site, letter.request, identifier)
            else:
                self.exchange.spent[letter.site].seconds = work_seconds(reply)
                if self._has_deadline:
                    self._held[letter.site] = reply  # who is late is known once all are there
                elif judge(self.exchange, self._link, letter.site, reply):
                    valid.append(reply)
        return valid

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Exchange messages; return the valid replies in the order of their sites."""
        self._patience = float("inf")
        self._waits_until = None
        identifiers = self.push_messages(messages)
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while self._mail.waiting(identifiers):
            if self._stop.is_set():
                raise RunInterrupted
            arrived = self._pull(identifiers)  # at least once, however late it is
            if time.monotonic() >= deadline:
                break
            if not arrived:
                time.sleep(POLL_SECONDS)
        for letter in self._mail.give_up(identifiers):
            self.exchange.fail(letter.site, f"no answer within {timeout} s")
        if self.clock is not None:
            self._judge_those_in_time(self.clock)
            self.exchange.network_seconds = self.clock.took(self.exchange)
        refuse_odd_metrics(self.exchange)
        replies = self.exchange.replies
        return [replies[site] for site in self._roster.sites() if site in replies]

    def _judge_those_in_time(self, clock: Clock) -> None:
        """Look at the replies that were held back, but for those that come after the deadline."""
        exchange, held = self.exchange, self._held
        self._held = {}
        sizes = {site: message_size(reply) for site, reply in held.items()}
        late = clock.late(exchange, sizes)
        for site, reply in held.items():
            if site in late:
                discard(exchange, site, reply, "late")
                limit = f"allowed are {clock.network.deadline:g} (network.deadline)"
                exchange.fail(site, f"its reply takes {late[site]:.4g} s on the network, {limit}")
            else:
                judge(exchange, self._link, site, reply)

    def _send(self, site: str, request: Message, instead_of: str | None = None) -> list[str]:
        identifier = send(self._inner, self.exchange, self._link, site, request)
        if identifier is None:
            return []
        self._mail.add(identifier, Letter(site, self.exchange.purpose, request), instead_of)
        return [identifier]
