"""How long messages would take: bandwidth, latency, loss, and a server's shared line.

Each client has a line of its own; all share the server's, each way, max-min fairly: nobody gets
more than it can use, and what is left is shared by those who can.

    rate = bandwidth · (1 − loss),  at most  MSS / RTT · √(3/2 / loss)     (Mathis et al. 1997)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from fedcomp import seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.tensors import Array

MEGABIT = 1e6
SEGMENT_BITS = 8 * 1460
"""The payload of a TCP segment on Ethernet."""

_TOGETHER = 1 + 1e-12
"""Transfers whose times to the end differ by no more than this factor end at once."""


@dataclass(frozen=True)
class Network:
    """Lines between a server and its clients.

    Parameters
    ----------
    name
        What the lines are called in results; `none` is no network: no time is simulated.
    up_mbps, down_mbps
        The median client's bandwidth in megabits a second.
    latency_ms
        One way.
    jitter_ms
        Mean of an exponential delay on top, drawn for each message.
    loss
        Share of the packets of a line that get lost.
    spread
        Standard deviation of the logarithm of clients' bandwidths.
    server_mbps
        The server's bandwidth each way, shared by all; without, it is no limit.
    compute
        Seconds of a client's training and coding: as they were measured, or so many a round, and
        none for evaluation.
    compute_factor
        On those seconds, of the median client.
    compute_spread
        Standard deviation of the logarithm of clients' factors.
    stragglers
        Share of the clients that are slower in everything, for the whole run.
    straggler_factor
        By so much.
    deadline
        Seconds after which a round goes on without those whose replies have not arrived.
    """

    name: str = "none"
    up_mbps: Annotated[float, Gt(0)] = 10.0
    down_mbps: Annotated[float, Gt(0)] = 10.0
    latency_ms: Annotated[float, Ge(0)] = 0.0
    jitter_ms: Annotated[float, Ge(0)] = 0.0
    loss: Annotated[float, Ge(0), Lt(1)] = 0.0
    spread: Annotated[float, Ge(0), Le(5)] = 0.0
    server_mbps: Annotated[float, Gt(0)] | None = None
    compute: Literal["measured"] | Annotated[float, Ge(0)] = "measured"
    compute_factor: Annotated[float, Gt(0)] = 1.0
    compute_spread: Annotated[float, Ge(0), Le(5)] = 0.0
    stragglers: Annotated[float, Ge(0), Le(1)] = 0.0
    straggler_factor: Annotated[float, Ge(1)] = 10.0
    deadline: Annotated[float, Gt(0)] | None = None

    @property
    def is_simulated(self) -> bool:
        """Whether there is a network."""
        return self.name != "none"

    @property
    def is_measured(self) -> bool:
        """Whether seconds of work that were measured count."""
        return self.is_simulated and self.compute == "measured"


@dataclass(frozen=True)
class Line:
    """One client's line and its machine, for the whole run.

    Attributes
    ----------
    up, down
        Bits a second.
    compute_factor
        On the seconds that its work takes.
    """

    up: float
    down: float
    compute_factor: float


def line(network: Network, seed: int, site: str) -> Line:
    """Return a client's line, drawn from the seed and the client's name.

    Examples
    --------
    >>> line(Network("lan", up_mbps=8, down_mbps=16, loss=0.5), 1, "0")
    Line(up=4000000.0, down=8000000.0, compute_factor=1.0)
    """
    random = seeds.generator(seed, "network", site)
    slow, fast, machine = random.random(), *random.standard_normal(2)
    factor = network.straggler_factor if slow < network.stragglers else 1.0
    speed = math.exp(network.spread * fast) / factor
    return Line(
        rate(network, network.up_mbps * speed),
        rate(network, network.down_mbps * speed),
        network.compute_factor * math.exp(network.compute_spread * machine) * factor,
    )


def rate(network: Network, mbps: float) -> float:
    """Return the bits that a line of so many megabits carries in a second, losses considered.

    Examples
    --------
    >>> lossy = Network("4g", latency_ms=50, loss=0.01)
    >>> rate(lossy, 1), round(rate(lossy, 100))     # 11,680 bits / 0.1 s · √150
    (990000.0, 1430502)
    """
    bits = mbps * MEGABIT * (1 - network.loss)
    round_trip = 2 * network.latency_ms / 1e3
    if network.loss and round_trip:
        bits = min(bits, SEGMENT_BITS / round_trip * math.sqrt(1.5 / network.loss))
    return bits


def delay(network: Network, *words: str | int) -> float:
    """Return the seconds that a message is under way, whatever its size."""
    seconds = network.latency_ms
    if network.jitter_ms:
        seconds += network.jitter_ms * seeds.generator("jitter", *words).standard_exponential()
    return seconds / 1e3


def fair_rates(most: Array, capacity: float) -> Array:
    """Share a capacity max-min fairly among transfers that can use so much each.

    Examples
    --------
    >>> fair_rates(np.array([1.0, 5.0, 9.0]), 9.0)
    array([1., 4., 4.])
    """
    if most.sum() <= capacity:
        return most
    ordered = np.sort(most)
    before = np.concatenate([[0.0], np.cumsum(ordered)[:-1]])
    levels = (capacity - before) / np.arange(len(most), 0, -1)
    found: Array = np.minimum(most, levels[np.argmax(levels <= ordered)])
    return found


def arrivals(
    starts: Sequence[float], bits: Sequence[float], most: Sequence[float], capacity: float | None
) -> list[float]:
    """Return when transfers end that begin at `starts` and share a capacity.

    Examples
    --------
    Two share 10 bits a second until the first has its 50, then the second has all:

    >>> arrivals([0, 0], [50, 100], [10, 10], 10)
    [10.0, 15.0]
    """
    begin, left, rates = (np.array(given, float) for given in (starts, bits, most))
    if capacity is None:
        return list(map(float, begin + left / rates))
    ends, waiting = begin.copy(), left > 0
    now = 0.0
    while waiting.any():
        active = waiting & (begin <= now)
        comes = float(begin[waiting & (begin > now)].min(initial=math.inf))
        if not active.any():
            now = comes
            continue
        speed = fair_rates(rates[active], capacity)
        needed = left[active] / speed
        step = float(needed.min())
        if now + step > comes:
            left[active] = np.maximum(left[active] - speed * (comes - now), 0.0)
            now = comes
            continue
        now += step
        left[active] -= speed * step
        done = np.flatnonzero(active)[needed <= step * _TOGETHER]
        ends[done] = now
        waiting[done] = False
    return list(map(float, ends))
