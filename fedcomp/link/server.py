"""The server's end of all links: the exact model, the public model, and who holds what.

    T  the model that the strategy aggregated          P  what a client holds that has every packet
    publish:  symbols = Q(T' − P),  P ← P + decode(symbols)      (absolute mode: Q(T'))
    uplink:   the strategy gets  T + (client model − P)

What a downlink codec loses is still in T − P, so the next version carries it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from fedcomp.errors import BitstreamError
from fedcomp.link.session import KEYFRAME_CODEC, Session, lossy, restore
from fedcomp.tensors import Tensors, add, subtract, version_of
from fedcomp.wire.packet import NO_FLAGS, NO_VERSION, Flag, Packet, read_chain
from fedcomp.wire.side import read_side, write_side

if TYPE_CHECKING:
    from fedcomp.codecs.base import Codec

PacketKind: TypeAlias = Literal["held", "absolute", "delta", "keyframe"]


@dataclass(frozen=True, slots=True)
class Sent:
    """One downlink packet and how it is booked."""

    blob: bytes = field(repr=False)
    kind: PacketKind
    codec: str
    payload_bytes: int
    side_bytes: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Received:
    """One uplink packet, checked and decoded."""

    model: Tensors = field(repr=False)
    side: Tensors = field(repr=False)
    payload_bytes: int
    side_bytes: int


class ServerLink:
    """Versions of the public model, and the packets that bring each client to the newest one.

    Parameters
    ----------
    session
        What both ends agree on.
    initial
        Version 0: both ends build it from the configuration and the seed.
    """

    def __init__(self, session: Session, initial: Tensors) -> None:
        self.session = session
        self.exact = initial
        self.public = initial
        self.version = version_of(initial)
        self._initial_version = self.version
        self._published: Packet | None = None
        self._blobs: dict[PacketKind, Sent] = {}
        self._holds: dict[str, bytes] = {}
        self._side = b""
        self._round = 0
        self._publish_seconds = 0.0

    def publish(self, model: Tensors, round_number: int, side: Tensors | None = None) -> None:
        """Make a new version of the public model out of the aggregate of a round."""
        began = time.perf_counter()
        codec = self.session.downlink
        reference = self.public if codec.mode == "delta" else {}  # else the packet stands alone
        context = self.session.context("downlink", round_number, reference)
        base = self.version
        symbols, self.public = lossy(codec, model, reference, context)
        self.exact = self.public if _same(model, self.public) else model
        self.version = version_of(self.public)
        self._round = round_number
        self._side = write_side(side or {})
        self._blobs.clear()
        self._published = self._packet(codec, codec.pack(symbols, context), base)
        self._publish_seconds = time.perf_counter() - began

    def downlink(self, site: str) -> Sent:
        """Return the packet that brings a client from what it holds to the newest version."""
        held = self._holds.get(site, self._initial_version)
        if held == self.version:
            return self._sent("held")
        if held == NO_VERSION or self._published is None:
            return self._sent("keyframe")
        if self.session.downlink.mode == "absolute":
            return self._sent("absolute")
        return self._sent("delta" if held == self._published.base else "keyframe")

    def confirm(self, site: str, version: bytes) -> None:
        """Note which version a client says it holds; a wrong claim costs it a refused packet."""
        self._holds[site] = version

    def forget(self, site: str) -> None:
        """Treat a client as one that holds nothing, so that it gets a packet that stands alone."""
        self._holds[site] = NO_VERSION

    def uplink(self, site: str, blob: bytes, round_number: int) -> Received:
        """Check and decode the reply of a client that trained on the newest version."""
        codec = self.session.uplink
        packets = read_chain(blob)
        packet = packets[0]
        self.session.check(packet, codec)
        if len(packets) > 1 or packet.flags:
            msg = f"an uplink message holds one plain packet, this one {len(packets)} with flags"
            raise BitstreamError(msg)
        if packet.round != round_number or packet.base != self.version:
            msg = (
                f"the reply is for round {packet.round} and version {packet.base.hex()}, the round"
                f" is {round_number} and its version {self.version.hex()}"
            )
            raise BitstreamError(msg)
        context = self.session.context("uplink", round_number, self.public, site)
        symbols = codec.unpack(packet.payload, context)
        model = restore(codec, symbols, self.public, context)
        bad = [name for name, value in model.items() if not np.isfinite(value).all()]
        if bad:
            msg = f"the reply holds values that are not finite, in {', '.join(bad[:3])}"
            raise BitstreamError(msg)
        if self.exact is not self.public:
            model = add(self.exact, subtract(model, self.public))
        return Received(model, read_side(packet.side), len(packet.payload), len(packet.side))

    def _packet(self, codec: Codec, payload: bytes, base: bytes) -> Packet:
        alone = codec.mode == "absolute"
        return Packet(
            codec=codec.id,
            session=self.session.digest,
            round=self._round,
            payload=payload,
            base=NO_VERSION if alone else base,
            version=self.version,
            flags=Flag.STANDALONE if alone else NO_FLAGS,
            side=self._side,
        )

    def _sent(self, kind: PacketKind) -> Sent:
        """Build each kind of packet once for all clients; the first one carries the time."""
        if kind in self._blobs:
            return self._blobs[kind]
        began = time.perf_counter()
        codec: Codec = KEYFRAME_CODEC
        if kind == "held":
            packet = replace(self._packet(codec, b"", NO_VERSION), flags=Flag.HELD)
        elif kind == "keyframe" or self._published is None:
            context = self.session.context("downlink", self._round, {})
            packet = self._packet(codec, codec.encode(self.public, context), NO_VERSION)
        else:
            codec, packet = self.session.downlink, self._published
            began -= self._publish_seconds
        blob = packet.to_bytes()
        sent = Sent(blob, kind, codec.name, len(packet.payload), len(packet.side))
        self._blobs[kind] = sent
        return replace(sent, seconds=time.perf_counter() - began)


def _same(left: Tensors, right: Tensors) -> bool:
    return all(
        value.dtype == right[name].dtype and np.array_equal(value, right[name])
        for name, value in left.items()
    )
