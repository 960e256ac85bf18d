"""The client's end of a link: what it received, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedcomp.errors import BitstreamError, LinkError
from fedcomp.link.session import KEYFRAME_CODEC, Session, lossy, restore
from fedcomp.link.stores import ClientState
from fedcomp.tensors import Tensors, version_of
from fedcomp.wire.packet import Flag, Packet, read_chain
from fedcomp.wire.side import read_side, write_side

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.codecs.base import Symbols
    from fedcomp.link.stores import StateStore


@dataclass(frozen=True)
class Update:
    """A finished answer of a recipe.

    Attributes
    ----------
    symbols
        What `ClientLink.quantise` made of the tensors, in one or several calls.
    target
        The tensors that the recipe would have sent without loss.
    side
        Named arrays for the server step.
    """

    symbols: Symbols
    target: Tensors = field(repr=False)
    side: Tensors = field(default_factory=dict, repr=False)


class ClientLink:
    """One client's view of one exchange; what must outlive it lies in the state store.

    Parameters
    ----------
    session
        What both ends agree on.
    site
        The client's name, the same over all rounds.
    store
        Where the client's state lives between messages.
    initial
        Builds version 0 from the configuration and the seed.

    Attributes
    ----------
    received
        The public model that the server sent.
    received_symbols
        The symbols it came in, where a codec's packet (no keyframe) came.
    side
        Named arrays that the server step sent beside the model.
    """

    def __init__(
        self, session: Session, site: str, store: StateStore, initial: Callable[[], Tensors]
    ) -> None:
        self.session = session
        self.site = site
        self.received: Tensors = {}
        self.received_symbols: Symbols | None = None
        self.side: Tensors = {}
        self.version = b""
        self.round = 0
        self._store = store
        self._initial = initial

    def open(self, blob: bytes, round_number: int) -> None:
        """Apply a downlink message; `LinkError` means that a keyframe is needed."""
        self.round = round_number
        state = self._stored()
        for packet in read_chain(blob):
            state = self._apply(packet, state)
        if state is None:
            msg = "the message brought no version"
            raise BitstreamError(msg)
        self.received = {name: state.model[name] for name in self.session.manifest.by_name}
        self.version = state.version
        self._store.save(self.site, state)

    def quantise(self, tensors: Tensors) -> tuple[Symbols, Tensors]:
        """Quantise trained tensors, all or some; return symbols and what the server will see."""
        base = {name: self.received[name] for name in tensors}
        context = self.session.context("uplink", self.round, self.received, self.site)
        return lossy(self.session.uplink, tensors, base, context)

    def reply(self, update: Update) -> bytes:
        """Return the uplink packet for a finished update."""
        context = self.session.context("uplink", self.round, self.received, self.site)
        codec = self.session.uplink
        payload = codec.pack(update.symbols, context)
        packet = Packet(
            codec=codec.id,
            session=self.session.digest,
            round=self.round,
            payload=payload,
            base=self.version,
            side=write_side(update.side),
        )
        return packet.to_bytes()

    def _stored(self) -> ClientState | None:
        """Return the state of this site unless it is one of another model."""
        state = self._store.load(self.site)
        if state is None:
            return None
        shapes = {name: (value.shape, str(value.dtype)) for name, value in state.model.items()}
        specs = self.session.manifest.by_name.items()
        return state if shapes == {n: (s.shape, s.dtype) for n, s in specs} else None

    def _apply(self, packet: Packet, state: ClientState | None) -> ClientState:
        self.session.check(packet, self.session.downlink, KEYFRAME_CODEC)
        self.side = read_side(packet.side)
        if Flag.HELD in packet.flags:
            return self._held(packet.version, state)
        keyframe = packet.codec == KEYFRAME_CODEC.id
        codec = KEYFRAME_CODEC if keyframe else self.session.downlink
        if Flag.STANDALONE in packet.flags:
            base: Tensors = {}
        elif state is None or state.version != packet.base:
            base = self._held(packet.base, state).model
        else:
            base = state.model
        context = self.session.context("downlink", packet.round, base)
        symbols = codec.unpack(packet.payload, context)
        model = restore(codec, symbols, base, context)
        self.received_symbols = None if keyframe else symbols
        version = version_of(model)
        if version != packet.version:
            msg = (
                f"client {self.site} computed version {version.hex()} where the server has"
                f" {packet.version.hex()}: a codec that differs between the two ends"
            )
            raise LinkError(msg)
        return ClientState(version, model)

    def _held(self, version: bytes, state: ClientState | None) -> ClientState:
        """Return the state of a version that the server believes is here."""
        if state is not None and state.version == version:
            return state
        initial = self._initial()
        if version_of(initial) == version:
            return ClientState(version, initial)
        held = state.version.hex() if state else "nothing"
        msg = f"client {self.site} holds {held} and lacks version {version.hex()}"
        raise LinkError(msg)
