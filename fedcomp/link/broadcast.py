"""The packets that bring any client to the newest version; each message is built once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from fedcomp.link.history import History, cost
from fedcomp.link.session import KEYFRAME_CODEC, Session
from fedcomp.wire.packet import HEADER_BYTES, NO_FLAGS, NO_VERSION, Flag, Packet, read_chain
from fedcomp.wire.side import write_side

if TYPE_CHECKING:
    from fedcomp.tensors import Tensors

PacketKind: TypeAlias = Literal["held", "absolute", "anchored", "delta", "chain", "keyframe"]


@dataclass(frozen=True, slots=True)
class Sent:
    """One downlink message and how it is booked."""

    blob: bytes = field(repr=False)
    kind: PacketKind
    codec: str
    payload_bytes: int
    side_bytes: int
    seconds: float = 0.0


class Broadcast:
    """What the server can send of its versions.

    Parameters
    ----------
    public, version
        The newest version, and its name.

    Attributes
    ----------
    anchor
        The newest version's name for the codec, if packets of mode absolute refer to what their
        receiver holds (`Codec.anchor`).
    """

    def __init__(self, session: Session, public: Tensors, version: bytes) -> None:
        self.history = History(session.link.history_bytes, session.link.history_versions)
        self.standalone: Packet | None = None
        self.anchor = self._anchor_of(public, session)
        self._alike = [version]  # versions with the anchor of the newest one
        self._anchored: Packet | None = None
        self._bases: list[bytes] = []  # versions from which the anchored packet leads on
        self._session = session
        self._public = public
        self._version = version
        self._round = 0
        self._side = b""
        self._seconds = 0.0
        self._messages: dict[tuple[PacketKind, int, bool], Sent] = {}

    def add(
        self,
        payload: bytes,
        public: Tensors,
        version: bytes,
        number: int,
        side: Tensors,
        anchored: bytes = b"",
    ) -> None:
        """Take a new version, and the payload that leads to it.

        Parameters
        ----------
        anchored
            In mode absolute, a shorter payload for those who hold the last version or one like it.
        """
        base, self._version = self._version, version
        self._public, self._round, self._side = public, number, write_side(side)
        self._messages.clear()
        codec = self._session.downlink
        if codec.mode == "absolute":
            self.standalone = self._packet(codec.id, payload, NO_VERSION)
            self._anchored, self._bases = None, []
            if anchored:
                packet = self._packet(codec.id, anchored, self.anchor)
                self._anchored = replace(packet, flags=Flag.ANCHORED)
                self._bases = self._alike
            before, self.anchor = self.anchor, self._anchor_of(public, self._session)
            older = self._alike if self.anchor and self.anchor == before else []
            self._alike = [*older, version][-self._session.link.history_versions :]
        elif version != base:
            self.history.append(self._packet(codec.id, payload, base))

    def refers(self, held: bytes) -> bool:
        """Tell whether the message for the holder of a version relies on it."""
        return self._route(held)[0] in ("held", "anchored")

    def spent(self, seconds: float) -> None:
        """Note the time that making the newest version took; it goes to its first message."""
        self._seconds = seconds

    def message(self, held: bytes, *, side: bool) -> Sent:
        """Return what leads from a version that a client holds to the newest one."""
        side = side and bool(self._side)
        kind, start = self._route(held)
        key = kind, start, side
        if key in self._messages:
            return self._messages[key]
        began = time.perf_counter()
        if kind in ("delta", "absolute", "anchored"):
            began -= self._seconds
            self._seconds = 0.0
        packets = self._packets(kind, start)
        extra = self._side if side else b""
        blob = b"".join(p.to_bytes() for p in [*packets[:-1], replace(packets[-1], side=extra)])
        payload = sum(len(packet.payload) for packet in packets)
        plain = kind in ("held", "keyframe")
        name = (KEYFRAME_CODEC if plain else self._session.downlink).name
        sent = Sent(blob, kind, name, payload, len(extra))
        self._messages[key] = sent
        return replace(sent, seconds=time.perf_counter() - began)

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return packets as arrays, and values for JSON."""
        newest = [packet for packet in (self.standalone, self._anchored) if packet]
        packets = [*self.history.packets, *newest]
        blobs = [np.frombuffer(packet.to_bytes(), np.uint8) for packet in packets]
        arrays: Tensors = {f"packet.{index}": blob for index, blob in enumerate(blobs)}
        return arrays, {
            "round": self._round,
            "side": self._side.hex(),
            "alike": [version.hex() for version in self._alike],
            "bases": [version.hex() for version in self._bases],
        }

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        """Take up what `save` returned.

        Packets of a codec with other settings stay behind: nobody could read them.  A schedule
        over all rounds is another one in a run that became longer.
        """
        for index in range(sum(name.startswith("packet.") for name in arrays)):
            (packet,) = read_chain(arrays[f"packet.{index}"].tobytes())
            if packet.codec != self._session.downlink.id:
                continue
            if Flag.STANDALONE in packet.flags:
                self.standalone = packet
            elif Flag.ANCHORED in packet.flags:
                self._anchored = packet
            else:
                self.history.append(packet)
        self._round, self._side = values["round"], bytes.fromhex(values["side"])
        self._alike = [bytes.fromhex(version) for version in values["alike"]]
        self._bases = [bytes.fromhex(version) for version in values["bases"]]

    @staticmethod
    def _anchor_of(public: Tensors, session: Session) -> bytes:
        return session.anchor_of(public) if session.downlink.mode == "absolute" else b""

    def _route(self, held: bytes) -> tuple[PacketKind, int]:
        """Return the cheapest way from a version, and where in the history it starts."""
        if held == self._version:
            return "held", 0
        if self.standalone is not None and held != NO_VERSION:
            return ("anchored" if held in self._bases else "absolute"), 0
        start = self.history.since(held) if held != NO_VERSION else None
        if start is not None:
            chain = self.history.packets[start:]
            if cost(chain) < self._keyframe_bytes():
                return ("delta" if len(chain) == 1 else "chain"), start
        return "keyframe", 0

    def _packets(self, kind: PacketKind, start: int) -> list[Packet]:
        if kind == "held":
            packet = self._packet(KEYFRAME_CODEC.id, b"", NO_VERSION)
            return [replace(packet, flags=Flag.HELD)]
        if kind in ("absolute", "anchored"):
            chosen = self.standalone if kind == "absolute" else self._anchored
            assert chosen is not None  # noqa: S101  see _route
            return [chosen]
        if kind != "keyframe":
            return self.history.packets[start:]
        context = self._session.context("downlink", self._round, {})
        payload = KEYFRAME_CODEC.encode(self._public, context)
        return [self._packet(KEYFRAME_CODEC.id, payload, NO_VERSION)]

    def _packet(self, codec: bytes, payload: bytes, base: bytes) -> Packet:
        return Packet(
            codec=codec,
            session=self._session.digest,
            round=self._round,
            payload=payload,
            base=base,
            version=self._version,
            flags=NO_FLAGS if base != NO_VERSION else Flag.STANDALONE,
        )

    def _keyframe_bytes(self) -> int:
        """Return the size of a keyframe, which holds every value as it is."""
        return HEADER_BYTES + 1 + sum(value.nbytes for value in self._public.values())
