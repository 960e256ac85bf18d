"""The client's end of a link: what it received, and what it answers.

quantise:  symbols = Q(trained − received + residual)        (absolute mode: Q(trained))
reply:     residual ← target − decoded, pending ← decoded, then the packet
open:      pending is dropped if the server used it, else residual ← residual + pending

target and decoded are differences to what was received.  A recipe that trains the `background`,
received + residual, hands over tensors with the residual in them: it is not added again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import BitstreamError, DivergedError, LinkError, StaleError
from fedcomp.link import feedback
from fedcomp.link.previous import pack_alone, unpack_alone
from fedcomp.link.session import KEYFRAME_CODEC, Session, restore
from fedcomp.link.state import ClientState, Part, Pending, Previous
from fedcomp.tensors import Tensors, add, full_digest, read_only, subtract, version_of
from fedcomp.wire.fields import NO_EXCHANGE, Reply
from fedcomp.wire.packet import Flag, Packet, read_chain
from fedcomp.wire.side import read_side, write_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from fedcomp.codecs.base import Codec, Context, Symbols
    from fedcomp.link.stores import StateStore
    from fedcomp.link.update import Update
    from fedcomp.wire.fields import Downlink


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
    residual
        What earlier updates left out, by tensor, as it will be added to this one's.
    side
        Named arrays that the server step sent beside the model.
    answered
        The reply to this very exchange if it was given before; it is to be sent again.
    """

    def __init__(
        self, session: Session, site: str, store: StateStore, initial: Callable[[], Tensors]
    ) -> None:
        self.session = session
        self.site = site
        self.received: Tensors = {}
        self.received_symbols: Symbols | None = None
        self.residual: Tensors = {}
        self.side: Tensors = {}
        self.answered: Pending | None = None
        self.round = 0
        self._store = store
        self._initial = initial
        self._state = ClientState()
        self._previous: Mapping[str, Any] | None = None
        self._plateaus = 0

    def open(self, blob: bytes, fields: Downlink, round_number: int) -> None:
        """Apply a downlink message; `LinkError` means that a keyframe is needed."""
        self.round = round_number
        self._plateaus = fields.plateaus
        with self._store.locked(self.site):
            self._open(blob, fields)

    def _open(self, blob: bytes, fields: Downlink) -> None:
        state = self._stored()
        if state.pending is not None and state.pending.exchange == fields.exchange:
            if not state.model:  # lost meanwhile; the reply is to prove that it is here
                state = self._apply_chain(read_chain(blob), state)
                self._store.save(self.site, state)
            self.answered = state.pending
            self.received = read_only(state.model)
            self._state = state
            return
        if fields.exchange < state.exchange:
            msg = (
                f"client {self.site} has seen exchange {state.exchange.hex()}; a message of"
                f" {fields.exchange.hex()} comes too late"
            )
            raise StaleError(msg)
        state = self._settle(state, fields)
        state = self._apply_chain(read_chain(blob), state)
        self.received = read_only({n: state.model[n] for n in self.session.manifest.by_name})
        self.residual = feedback.loaded(state.residual.tensors) if self.session.feedback else {}
        self._state = replace(state, exchange=fields.exchange)
        last, alone = state.previous, not self.session.uplink.needs_previous
        if last.payload and (alone or last.exchange == fields.previous):
            self._previous = unpack_alone(last.payload, self.session)
        self._store.save(self.site, self._state)

    def background(self) -> Tensors:
        """Return what was received with all that earlier updates left out of it."""
        decay = self.session.link.feedback_decay
        left = {n: np.asarray(v * v.dtype.type(decay)) for n, v in self.residual.items()}
        return add(self.received, left)

    def quantise(
        self, tensors: Tensors, importance: Tensors | None = None
    ) -> tuple[Symbols, Tensors]:
        """Quantise trained tensors, all or some; return symbols and what the server will see.

        Parameters
        ----------
        importance
            How much the error of each weight counts; see `Codec.quantise_weighted`.
        """
        codec, context = self.session.uplink, self._context()
        base = {name: self.received[name] for name in tensors}
        given = self._target(tensors) if codec.mode == "delta" else tensors
        if importance is None:
            symbols = codec.quantise(given, context)
        else:
            symbols = codec.quantise_weighted(given, importance, context)
        return symbols, restore(codec, symbols, base, context)

    def confine(self, masks: Mapping[str, NDArray[np.bool_]]) -> None:
        """Give up what is left over of weights that masks leave out: it will never be of use."""
        self.residual |= {
            name: np.where(masks[name], value, value.dtype.type(0))
            for name, value in self.residual.items()
            if name in masks
        }

    def unchanged(self, names: Iterable[str]) -> Symbols:
        """Return symbols that leave tensors as they were received; their residual stays here."""
        codec, received = self.session.uplink, {name: self.received[name] for name in names}
        given = subtract(received, received) if codec.mode == "delta" else received
        return codec.quantise(given, self._context())

    def reply(self, update: Update, note: str = "") -> bytes:
        """Return the uplink packet for a finished update; `note` is kept with it.

        Another worker may have answered this exchange already, whose packet is returned then, or
        have opened a later one.
        """
        with self._store.locked(self.site):
            exchange, answered = self._store.seen(self.site) or (self._state.exchange, False)
            if exchange != self._state.exchange:
                msg = (
                    f"client {self.site} has seen exchange {exchange.hex()} while it worked on"
                    f" {self._state.exchange.hex()}: its answer comes too late"
                )
                raise StaleError(msg)
            if answered:
                self._state = self._stored()
            else:
                self._state = self._replied(update, note)
                self._store.save(self.site, self._state)
        assert self._state.pending is not None  # noqa: S101  see above
        return self._state.pending.blob

    def _replied(self, update: Update, note: str) -> ClientState:
        """Return the state with an answer that the server has not acknowledged."""
        codec, context, state = self.session.uplink, self._context(), self._state
        packet = Packet(
            codec=codec.id,
            session=self.session.digest,
            round=self.round,
            payload=codec.pack(update.symbols, context),
            base=state.version,
            side=write_side(update.side),
        )
        blob = packet.to_bytes()
        lost: Tensors = {}
        if self.session.feedback:
            manifest = self.session.manifest
            target = feedback.parameters(self._target(update.target), manifest)
            lost = feedback.parameters(self._decoded(update.symbols), manifest)
            residual = self.residual | feedback.left_over(target, lost)
            kept = feedback.stored(residual, self.session.link)
            state = replace(state, residual=Part(kept))
        symbols = b""
        if codec.uses_previous:
            symbols = pack_alone(update.symbols, self.session, self.round)
        refers = self._previous is not None and codec.needs_previous
        previous = state.previous.exchange if refers else NO_EXCHANGE
        pending = Pending(state.exchange, blob, previous, note, symbols, Part(lost))
        return replace(state, pending=pending)

    def reply_fields(self) -> Reply:
        """Return what a reply says beside its packet."""
        state, link = self._state, self.session.link
        digest = full_digest(self.received) if link.verify and self.received else b""
        previous = state.pending.previous if state.pending is not None else NO_EXCHANGE
        return Reply(state.exchange, state.version, previous, digest)

    def _target(self, tensors: Tensors) -> Tensors:
        """Return trained − received + residual, which the background contains already."""
        base = {name: self.received[name] for name in tensors}
        change = subtract(tensors, base)
        if self.session.background:
            return change
        return feedback.added(change, self.residual, self.session.link.feedback_decay)

    def _decoded(self, symbols: Symbols) -> Tensors:
        """Return by how much the server will see the model changed."""
        codec, context = self.session.uplink, self._context()
        if codec.mode == "delta":
            return codec.reconstruct(symbols, context)
        base = {name: self.received[name] for name in symbols}
        return subtract(restore(codec, symbols, base, context), base)

    @property
    def codec(self) -> Codec:
        """The uplink's codec with the settings of this round."""
        return self.session.uplink.at(self._context())

    def _context(self) -> Context:
        models = self.received, self.site, self._previous
        return self.session.context("uplink", self.round, *models, self._plateaus)

    def _stored(self) -> ClientState:
        """Return the state of this site unless it is one of another model."""
        state = self._store.load(self.site)
        if state is None:
            return ClientState()
        shapes = {name: (value.shape, str(value.dtype)) for name, value in state.model.items()}
        specs = self.session.manifest.by_name.items()
        same = shapes == {n: (s.shape, s.dtype) for n, s in specs}
        return state if same or not state.model else ClientState()

    def _settle(self, state: ClientState, fields: Downlink) -> ClientState:
        """Drop the pending update if the server used it; otherwise it is still to be sent."""
        pending = state.pending
        if pending is not None and pending.exchange == fields.used:
            previous = Previous(pending.exchange, pending.symbols)
            state = replace(state, pending=None, previous=previous)
        elif pending is not None:
            residual = feedback.loaded(state.residual.tensors)
            again = feedback.total(residual, pending.decoded.tensors)
            kept = feedback.stored(again, self.session.link)
            state = replace(state, pending=None, residual=Part(kept))
        return state

    def _apply_chain(self, packets: list[Packet], state: ClientState) -> ClientState:
        """Apply packets in order, but none of those that led to what is held already."""
        at = [i for i, packet in enumerate(packets) if packet.version == state.version]
        for packet in packets[at[-1] if at else 0 :]:
            state = self._apply(packet, state)
        return state

    def _apply(self, packet: Packet, state: ClientState) -> ClientState:
        self.session.check(packet, self.session.downlink, KEYFRAME_CODEC)
        self.side = read_side(packet.side)
        if packet.version == state.version or Flag.HELD in packet.flags:
            return self._held(packet.version, state)
        keyframe = packet.codec == KEYFRAME_CODEC.id
        codec = KEYFRAME_CODEC if keyframe else self.session.downlink
        alone = Flag.STANDALONE in packet.flags
        if Flag.ANCHORED in packet.flags:
            base = self._anchored(packet.base, state)
        else:
            base = {} if alone else self._held(packet.base, state).model
        context = self.session.context("downlink", packet.round, base)
        symbols = codec.unpack(packet.payload, context)
        model = restore(codec, symbols, base, context)
        if model.keys() != self.session.manifest.by_name.keys():
            msg = f"a packet that stands alone brings {len(model)} tensors of a model"
            raise BitstreamError(msg)
        self.received_symbols = None if keyframe else symbols
        version = version_of(model)
        if version != packet.version:
            msg = (
                f"client {self.site} computed version {version.hex()} where the server has"
                f" {packet.version.hex()}: a codec that differs between the two ends"
            )
            raise DivergedError(msg)
        return replace(state, version=version, model=model)

    def _anchored(self, anchor: bytes, state: ClientState) -> Tensors:
        """Return the model that is held if the codec cannot tell it from the server's."""
        model = state.model or self._initial()
        if self.session.anchor_of(model) != anchor:
            msg = f"client {self.site} holds no model that the codec calls {anchor.hex()}"
            raise LinkError(msg)
        return model

    def _held(self, version: bytes, state: ClientState) -> ClientState:
        """Return the state with a version that the server believes is here."""
        if state.version == version:
            return state
        initial = self._initial()
        if version_of(initial) == version:
            return replace(state, version=version, model=initial)
        held = state.version.hex() if state.model else "nothing"
        msg = f"client {self.site} holds {held} and lacks version {version.hex()}"
        raise LinkError(msg)
