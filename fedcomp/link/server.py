"""The server's end of all links: the exact model, the public model, and who holds what.

    T  the model that the strategy aggregated          P  what a client holds that has every packet
    publish:  symbols = Q(T' − P),  P ← P + decode(symbols)      (absolute mode: Q(T'))
    uplink:   the strategy gets  T + (client model − P)

What a downlink codec loses is still in T − P, so the next version carries it.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from fedcomp.errors import BitstreamError, DivergedError
from fedcomp.link.history import History, cost
from fedcomp.link.previous import SentSymbols
from fedcomp.link.received import Received
from fedcomp.link.session import KEYFRAME_CODEC, Session, lossy
from fedcomp.tensors import Tensors, full_digest, version_of
from fedcomp.wire.fields import NO_EXCHANGE, Downlink
from fedcomp.wire.packet import HEADER_BYTES, NO_FLAGS, NO_VERSION, Flag, Packet, read_chain
from fedcomp.wire.side import read_side, write_side

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedcomp.wire.fields import Reply

PacketKind: TypeAlias = Literal["held", "absolute", "delta", "chain", "keyframe"]

_EXCHANGE = struct.Struct(">QI")


@dataclass(frozen=True, slots=True)
class Sent:
    """One downlink message and how it is booked."""

    blob: bytes = field(repr=False)
    kind: PacketKind
    codec: str
    payload_bytes: int
    side_bytes: int
    seconds: float = 0.0


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
    """

    def __init__(self, session: Session, initial: Tensors, start: int | None = None) -> None:
        self.session = session
        self.exact = initial
        self.public = initial
        self.version = version_of(initial)
        self._initial_version = self.version
        self._start = time.time_ns() if start is None else start
        self._count = 0
        self._exchange = NO_EXCHANGE
        self._asked: set[str] = set()
        self._answered: dict[str, Received] = {}
        self._history = History(session.link.history_bytes, session.link.history_versions)
        self._standalone: Packet | None = None
        self._blobs: dict[tuple[bytes, bool], Sent] = {}
        self._holds: dict[str, bytes] = {}
        self._used: dict[str, bytes] = {}
        self._previous = SentSymbols(session.link.history_bytes)
        self._side = b""
        self._round = 0
        self._publish_seconds = 0.0

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
        fields = Downlink(self._exchange, used, self._previous.exchange(site))
        return self._sent(held, side=side), fields

    def forget(self, site: str) -> None:
        """Treat a client as one that holds nothing, so that it gets a packet that stands alone.

        In absolute mode the newest one does, unless that is what it could not read.
        """
        if self._standalone is not None and self._holds.get(site) == self.version:
            del self._holds[site]
        else:
            self._holds[site] = NO_VERSION

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
        received.check(self.session.link.max_update_norm)
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

    def publish(
        self, model: Tensors, round_number: int, used: Iterable[str], side: Tensors | None = None
    ) -> None:
        """Make a new version out of the aggregate of a round and of the replies used for it."""
        began = time.perf_counter()
        self._acknowledge(used)
        codec = self.session.downlink
        reference = self.public if codec.mode == "delta" else {}  # else the packet stands alone
        context = self.session.context("downlink", round_number, reference)
        base = self.version
        self.exact = model  # lets go of the old one before the new version is built
        symbols, self.public = lossy(codec, model, reference, context)
        if _same(model, self.public):
            self.exact = self.public
        self.version = version_of(self.public)
        self._round = round_number
        self._side = write_side(side or {})
        self._blobs.clear()
        payload = codec.pack(symbols, context)
        if codec.mode == "absolute":
            self._standalone = self._packet(codec.id, payload, NO_VERSION)
        elif self.version != base:
            self._history.append(self._packet(codec.id, payload, base))
        self._publish_seconds = time.perf_counter() - began

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the state between two rounds as arrays and as values for JSON."""
        arrays = {f"public.{name}": value for name, value in self.public.items()}
        if self.exact is not self.public:
            arrays |= {f"exact.{name}": value for name, value in self.exact.items()}
        packets = [*self._history.packets, *([self._standalone] if self._standalone else [])]
        for index, packet in enumerate(packets):
            arrays[f"packet.{index}"] = np.frombuffer(packet.to_bytes(), np.uint8)
        previous, exchanges = self._previous.save()
        arrays |= {f"previous.{site}": payload for site, payload in previous.items()}
        values = {
            "round": self._round,
            "side": self._side.hex(),
            "holds": {site: version.hex() for site, version in self._holds.items()},
            "used": {site: exchange.hex() for site, exchange in self._used.items()},
            "previous": exchanges,
        }
        return arrays, values

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        """Take up a saved state."""
        names = self.session.manifest.by_name
        self.public = {name: arrays[f"public.{name}"] for name in names}
        exact = {n: arrays[f"exact.{n}"] for n in names if f"exact.{n}" in arrays}
        self.exact = exact or self.public
        self.version = version_of(self.public)
        self._history.packets.clear()
        self._standalone = None
        for index in range(sum(name.startswith("packet.") for name in arrays)):
            (packet,) = read_chain(arrays[f"packet.{index}"].tobytes())
            if Flag.STANDALONE in packet.flags:
                self._standalone = packet
            else:
                self._history.append(packet)
        self._round, self._side = values["round"], bytes.fromhex(values["side"])
        self._holds = {site: bytes.fromhex(text) for site, text in values["holds"].items()}
        self._used = {site: bytes.fromhex(text) for site, text in values["used"].items()}
        self._previous.load(arrays, values["previous"])
        self._blobs.clear()

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
        if packet.round != round_number or packet.base != self.version:
            msg = (
                f"the reply is for round {packet.round} and version {packet.base.hex()}, the round"
                f" is {round_number} and its version {self.version.hex()}"
            )
            raise BitstreamError(msg)
        return packet

    def _packet(self, codec: bytes, payload: bytes, base: bytes) -> Packet:
        return Packet(
            codec=codec,
            session=self.session.digest,
            round=self._round,
            payload=payload,
            base=base,
            version=self.version,
            flags=NO_FLAGS if base != NO_VERSION else Flag.STANDALONE,
        )

    def _sent(self, held: bytes, *, side: bool) -> Sent:
        """Build a message once for all clients that hold the same; the first has the time."""
        side = side and bool(self._side)
        if (held, side) in self._blobs:
            return self._blobs[held, side]
        began = time.perf_counter()
        kind, packets = self._packets(held)
        if kind in ("delta", "absolute"):
            began -= self._publish_seconds
            self._publish_seconds = 0.0
        extra = self._side if side else b""
        last = replace(packets[-1], side=extra)
        blob = b"".join(packet.to_bytes() for packet in [*packets[:-1], last])
        payload = sum(len(packet.payload) for packet in packets)
        name = (KEYFRAME_CODEC if kind in ("held", "keyframe") else self.session.downlink).name
        sent = Sent(blob, kind, name, payload, len(extra))
        self._blobs[held, side] = sent
        return replace(sent, seconds=time.perf_counter() - began)

    def _packets(self, held: bytes) -> tuple[PacketKind, list[Packet]]:
        """Return the cheapest packets from a version that a client holds to the newest one."""
        if held == self.version:
            packet = self._packet(KEYFRAME_CODEC.id, b"", NO_VERSION)
            return "held", [replace(packet, flags=Flag.HELD)]
        if self._standalone is not None and held != NO_VERSION:
            return "absolute", [self._standalone]
        chain = self._history.since(held) if held != NO_VERSION else None
        if chain and cost(chain) < self._keyframe_bytes():
            return ("delta" if len(chain) == 1 else "chain"), chain
        context = self.session.context("downlink", self._round, {})
        payload = KEYFRAME_CODEC.encode(self.public, context)
        return "keyframe", [self._packet(KEYFRAME_CODEC.id, payload, NO_VERSION)]

    def _keyframe_bytes(self) -> int:
        """Return the size of a keyframe, which holds every value as it is."""
        return HEADER_BYTES + 1 + sum(value.nbytes for value in self.public.values())


def _same(left: Tensors, right: Tensors) -> bool:
    return all(
        value.dtype == right[name].dtype and np.array_equal(value, right[name])
        for name, value in left.items()
    )
