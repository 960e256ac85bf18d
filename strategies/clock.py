"""How long an exchange takes on the simulated network, client by client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedcomp.network import MEGABIT, Line, Network, arrivals, delay, line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strategies.exchange import Exchange


@dataclass
class Spent:
    """One client's part in an exchange.

    Attributes
    ----------
    down_bytes, up_bytes
        Of all messages to it and from it, repeated ones included.
    seconds
        Of its training and coding, as it has measured them; None before it has answered.
    """

    down_bytes: int = 0
    up_bytes: int = 0
    seconds: float | None = None


class Clock:
    """Simulates the time of exchanges on the network of a run.

    All messages leave the server at once.  Each client works when it has the whole of its own, and
    answers when it is done; a reply has arrived when the server has the whole of it.  Whoever does
    not answer at all takes no time, unless there is a deadline, and an error takes its way alone if
    seconds are measured: it does not tell any.  Of a client that is sent a second
    message, because it had lost its state, the bytes count and not the further way there and back.
    """

    def __init__(self, network: Network, seed: int) -> None:
        self.network = network
        self._seed = seed
        self._lines: dict[str, Line] = {}

    def late(self, exchange: Exchange, more: Mapping[str, int]) -> dict[str, float]:
        """Return who is late and when its reply arrives.

        Parameters
        ----------
        more
            Bytes that are not booked yet, of the replies at hand.
        """
        deadline = self.network.deadline
        found = self.arrivals(exchange, more)
        return {s: when for s, when in found.items() if deadline is not None and when > deadline}

    def took(self, exchange: Exchange) -> float:
        """Return when the server has all replies, or the deadline if it does not have them then."""
        found, deadline = self.arrivals(exchange), self.network.deadline
        last = max(found.values(), default=0.0)
        if deadline is not None and (len(found) < len(exchange.asked) or last > deadline):
            return deadline
        return last

    def served(self, exchange: Exchange) -> float:
        """Return what the server's own work takes: nothing unless seconds are measured."""
        return exchange.server_seconds if self.network.is_measured else 0.0

    def arrivals(
        self, exchange: Exchange, more: Mapping[str, int] | None = None
    ) -> dict[str, float]:
        """Return when each reply has arrived, in seconds from the start, however late that is."""
        parts = {s: one for s, one in exchange.spent.items() if one.seconds is not None}
        sites, spent = list(parts), list(parts.values())
        lines = [self._line(site) for site in sites]

        def waits(direction: str) -> list[float]:
            key = exchange.round, exchange.purpose, direction
            return [delay(self.network, self._seed, site, *key) for site in sites]

        limit = self.network.server_mbps
        capacity = None if limit is None else limit * MEGABIT
        sizes = [8.0 * one.down_bytes for one in spent]
        there = arrivals(waits("downlink"), sizes, [one.down for one in lines], capacity)
        trains = exchange.purpose == "train"
        works = [self._work(*pair, trains) for pair in zip(spent, lines, strict=True)]
        starts = [sum(times) for times in zip(there, works, waits("uplink"), strict=True)]
        sizes = [8.0 * (one.up_bytes + (more or {}).get(site, 0)) for site, one in parts.items()]
        ends = arrivals(starts, sizes, [one.up for one in lines], capacity)
        return dict(zip(sites, ends, strict=True))

    def _work(self, spent: Spent, own: Line, trains: bool) -> float:
        compute = self.network.compute
        if compute == "measured":
            return (spent.seconds or 0.0) * own.compute_factor
        return compute * own.compute_factor if trains else 0.0

    def _line(self, site: str) -> Line:
        if site not in self._lines:
            self._lines[site] = line(self.network, self._seed, site)
        return self._lines[site]
