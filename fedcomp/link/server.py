"""The server's end of all links: the exact model, the public model, and who holds what.

    T  the model that the strategy aggregated          P  what a client holds that has every packet
    publish:  symbols = Q(T' − P),  P ← P + decode(symbols)      (absolute mode: Q(T'))
    uplink:   the strategy gets  T + (client model − P)

What a downlink codec loses is still in T − P, so the next version carries it.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import BitstreamError, DataError, DivergedError
from fedcomp.link.broadcast import Broadcast, Sent
from fedcomp.link.plateau import Plateau
from fedcomp.link.previous import SentSymbols
from fedcomp.link.rate import Rate, all_moved
from fedcomp.link.received import Received
from fedcomp.link.session import Session, quantised, restore
from fedcomp.tensors import Tensors, full_digest, read_only, version_of
from fedcomp.wire.fields import NO_EXCHANGE, Downlink
from fedcomp.wire.packet import NO_VERSION, Packet, read_chain
from fedcomp.wire.side import read_side

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedcomp.wire.fields import Reply

_EXCHANGE = struct.Struct(">QI")

UNKNOWN = b"\xff" * len(NO_VERSION)
"""The version of a client that has lost what it held, and can read a packet that stands alone."""


class ServerLink:
    """Versions of the public model, and the packets that bring each client to the newest one.

    Parameters
    ----------
    session
        What both ends agree on.
    initial
        Version 0: both ends build it from the configuration and the seed.
    start
        A number larger than that of any earlier server of this run; the clock by default.

    Attributes
    ----------
    rate
        How dense the packet of the newest version is, once this server has made one.
    """

    def __init__(self, session: Session, initial: Tensors, start: int | None = None) -> None:
        self.session = session
        self.exact = self.public = read_only(initial)
        self.version = version_of(initial)
        self._initial_version = self.version
        self._start = time.time_ns() if start is None else start
        self._count = 0
        self._exchange = NO_EXCHANGE
        self._asked: set[str] = set()
        self._answered: dict[str, Received] = {}
        self.broadcast = Broadcast(session, self.public, self.version)
        self._holds: dict[str, bytes] = {}
        self._used: dict[str, bytes] = {}
        self._previous = SentSymbols(session.link.history_bytes)
        self._plateaus = Plateau.of(session.uplink), Plateau.of(session.downlink)
        self.rate: Rate | None = None

    def begin(self) -> None:
        """Open an exchange; replies to earlier ones are dead from now on."""
        self._count += 1
        self._exchange = _EXCHANGE.pack(self._start, self._count)
        self._asked.clear()
        self._answered.clear()

    def downlink(self, site: str, *, side: bool = True) -> tuple[Sent, Downlink]:
        """Return what brings a client from what it holds to the newest version."""
        self._asked.add(site)
        held = self._holds.get(site, self._initial_version)
        used = self._used.get(site, NO_EXCHANGE)
        previous, (uplink, _) = self._previous.exchange(site), self._plateaus
        fields = Downlink(self._exchange, used, previous, uplink.count if uplink else 0)
        return self.broadcast.message(held, side=side), fields

    def forget(self, site: str) -> None:
        """Treat a client as one that holds nothing, so that it gets a packet that stands alone.

        In absolute mode the newest one does, unless that is what it could not read.
        """
        alone = self.broadcast.standalone is not None and self.broadcast.refers(
            self._holds.get(site, self._initial_version)
        )
        self._holds[site] = UNKNOWN if alone else NO_VERSION

    def uplink(self, site: str, blob: bytes, fields: Reply, round_number: int) -> Received:
        """Check the reply of a client that trained on the newest version."""
        if fields.exchange != self._exchange or site not in self._asked:
            msg = (
                f"the reply answers exchange {fields.exchange.hex()}, open is"
                f" {self._exchange.hex()}: it came too late"
            )
            raise BitstreamError(msg)
        if site in self._answered:
            msg = "the client has answered this exchange already"
            raise BitstreamError(msg)
        packet = self._plain(blob, round_number)
        previous = self._previous.symbols(site, fields.previous, self.session)
        context = self.session.context("uplink", round_number, self.public, site, previous)
        models = self.exact, self.public
        received = Received(packet.payload, self.session.uplink, context, *models)
        received.check(self.session.link)
        received.side, received.side_bytes = read_side(packet.side), len(packet.side)
        self._answered[site] = received
        return received

    def confirm(self, site: str, fields: Reply) -> None:
        """Note which version a client says it holds; a wrong claim costs it a refused packet."""
        self._holds[site] = fields.version
        if self.session.link.verify and fields.digest != full_digest(self.public):
            msg = (
                f"client {site} does not hold the public model {self.version.hex()}: it says"
                f" {fields.digest.hex() or 'nothing'} (link.verify)"
            )
            raise DivergedError(msg)

    def observe(self, loss: float) -> None:
        """Take up the training loss of a round, which adaptive schedules follow."""
        for plateau in filter(None, self._plateaus):
            plateau.observe(loss)

    def publish(
        self, model: Tensors, round_number: int, used: Iterable[str], side: Tensors | None = None
    ) -> None:
        """Make a new version out of the aggregate of a round and of the replies used for it."""
        began = time.perf_counter()
        self._acknowledge(used)
        codec = self.session.downlink
        reference = self.public if codec.mode == "delta" else {}  # else the packet stands alone
        _, plateau = self._plateaus
        count = plateau.count if plateau else 0
        context = self.session.context("downlink", round_number, reference, plateaus=count)
        self.exact = read_only(model)  # lets go of the old one before the new version is built
        symbols = quantised(codec, model, reference, context)
        payload = codec.pack(symbols, context)
        anchored = b""
        if self.broadcast.anchor:
            held = self.session.context("downlink", round_number, self.public, plateaus=count)
            anchored = codec.pack(symbols, held)
        public = restore(codec, symbols, reference, context, consumed=True)
        changed = all_moved(self.session.manifest, self.public, public)
        self.public = read_only(public)
        if _same(model, public):
            self.exact = self.public
        self.version = version_of(public)
        anchored = anchored if len(anchored) < len(payload) else b""
        self.rate = Rate.of(self.session.manifest, [(len(anchored or payload), changed)])
        new = payload, self.public, self.version, round_number, side or {}
        self.broadcast.add(*new, anchored)
        self.broadcast.spent(time.perf_counter() - began)

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the state between two rounds as arrays and as values for JSON."""
        arrays = {f"public.{name}": value for name, value in self.public.items()}
        if self.exact is not self.public:
            arrays |= {f"exact.{name}": value for name, value in self.exact.items()}
        packets, values = self.broadcast.save()
        previous, exchanges = self._previous.save()
        arrays |= packets | {f"previous.{site}": data for site, data in previous.items()}
        return arrays, {
            **values,
            "exchange": self._exchange.hex(),
            "holds": {site: version.hex() for site, version in self._holds.items()},
            "used": {site: exchange.hex() for site, exchange in self._used.items()},
            "previous": exchanges,
            "plateaus": [plateau.save() if plateau else [] for plateau in self._plateaus],
        }

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        """Take up a saved state."""
        names = self.session.manifest.by_name
        for name, spec in names.items():
            found = arrays.get(f"public.{name}")
            if found is None or (found.shape, str(found.dtype)) != (spec.shape, spec.dtype):
                msg = f"the checkpoint holds another model than the run's, in {name}"
                raise DataError(msg)
        self.public = read_only({name: arrays[f"public.{name}"] for name in names})
        exact = {n: arrays[f"exact.{n}"] for n in names if f"exact.{n}" in arrays}
        self.exact = read_only(exact) if exact else self.public
        self.version = version_of(self.public)
        self.broadcast = Broadcast(self.session, self.public, self.version)
        self.broadcast.load(arrays, values)
        last, _ = _EXCHANGE.unpack(bytes.fromhex(values["exchange"]))
        self._start = max(self._start, last + 1)  # the clock may have been put back
        self._holds = {site: bytes.fromhex(text) for site, text in values["holds"].items()}
        self._used = {site: bytes.fromhex(text) for site, text in values["used"].items()}
        self._previous.load(arrays, values["previous"])
        for plateau, saved in zip(self._plateaus, values["plateaus"], strict=True):
            if plateau:
                plateau.load(saved)

    def _acknowledge(self, used: Iterable[str]) -> None:
        """Note whose replies are in the new version: only those are acked."""
        for site in used:
            self._used[site] = self._exchange
            self._previous.keep(site, self._exchange, self._answered[site], self.session)
        self._answered.clear()
        self._asked.clear()

    def _plain(self, blob: bytes, round_number: int) -> Packet:
        """Return the packet of a reply if it is one that a client of this round may send."""
        packets = read_chain(blob)
        packet = packets[0]
        self.session.check(packet, self.session.uplink)
        if len(packets) > 1 or packet.flags:
            msg = f"an uplink message holds one plain packet, this one {len(packets)} with flags"
            raise BitstreamError(msg)
        if packet.version != NO_VERSION:
            msg = f"a reply names no new version, this one {packet.version.hex()}"
            raise BitstreamError(msg)
        if packet.round != round_number or packet.base != self.version:
            msg = (
                f"the reply is for round {packet.round} and version {packet.base.hex()}, the round"
                f" is {round_number} and its version {self.version.hex()}"
            )
            raise BitstreamError(msg)
        return packet


def _same(left: Tensors, right: Tensors) -> bool:
    return all(
        value.dtype == right[name].dtype and np.array_equal(value, right[name])
        for name, value in left.items()
    )
