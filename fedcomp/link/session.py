"""What both ends of a link agree on before the first packet."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.codecs.base import Codec, Context, Direction, Symbols
from fedcomp.codecs.none import NoCompression
from fedcomp.errors import BitstreamError, CodecError
from fedcomp.link.settings import LinkSettings
from fedcomp.tensors import VERSION_BYTES, Kind, Manifest, Tensors, add, narrowed, subtract

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.wire.packet import Packet

KEYFRAME_CODEC = NoCompression()


@dataclass(frozen=True)
class Session:
    """A run, a model, the two codecs and the link's settings; packets refer to it by hash.

    Attributes
    ----------
    frozen
        A hash of what of the model does not travel, because no client trains it.
    background
        Whether clients train the model and what earlier updates left out of it, so that their
        tensors contain that already.
    """

    manifest: Manifest
    run_id: str
    seed: int
    uplink: Codec
    downlink: Codec
    link: LinkSettings = field(default_factory=LinkSettings)
    frozen: bytes = b""
    background: bool = False

    @cached_property
    def digest(self) -> bytes:
        """The session field of every packet."""
        parts = self.manifest.digest, self.frozen, self.run_id.encode()
        return hashlib.sha256(b"".join(parts)).digest()[:4]

    @property
    def feedback(self) -> bool:
        """Whether clients keep what their codec leaves out."""
        return self.link.feedback_with(self.uplink, background=self.background)

    def anchor_of(self, model: Tensors) -> bytes:
        """Name what the downlink's codec takes of a model that a client holds, if anything."""
        name = self.downlink.anchor(model, self.manifest)
        return hashlib.sha256(name).digest()[:VERSION_BYTES] if name else b""

    def context(
        self,
        direction: Direction,
        round_number: int,
        reference: Tensors,
        client: str = "",
        previous: Mapping[str, Any] | None = None,
        plateaus: int = 0,
    ) -> Context:
        """Return the context of one packet."""
        models = reference, previous
        return Context(self.manifest, self.seed, round_number, direction, client, *models, plateaus)

    def rehearse(self, model: Tensors) -> None:
        """Use both codecs once, so that no later time includes the loading of compiled code."""
        both: tuple[tuple[Direction, Codec], ...] = (
            ("uplink", self.uplink),
            ("downlink", self.downlink),
        )
        for direction, codec in both:
            context = self.context(direction, 0, model, "rehearsal")
            with suppress(CodecError):  # a model is no update, and may be too large for one
                codec.decode(codec.encode(model, context), context)

    def check(self, packet: Packet, *codecs: Codec) -> None:
        """Raise unless the packet belongs to this session and was written by one of `codecs`."""
        if packet.session != self.digest:
            msg = (
                f"the packet belongs to session {packet.session.hex()}, this end runs"
                f" {self.digest.hex()}: another run, another model, or other weights in the part"
                " of it that is not trained"
            )
            raise BitstreamError(msg)
        if packet.codec not in {codec.id for codec in codecs}:
            known = ", ".join(f"{codec.name} {codec.id.hex()}" for codec in codecs)
            msg = (
                f"the packet was written by codec {packet.codec.hex()}, expected {known}: both ends"
                " need the same codec with the same settings"
            )
            raise BitstreamError(msg)


def quantised(codec: Codec, target: Tensors, base: Tensors, context: Context) -> Symbols:
    """Quantise `target` as the codec's mode asks."""
    return codec.quantise(subtract(target, base) if codec.mode == "delta" else target, context)


def restore(
    codec: Codec, symbols: Symbols, base: Tensors, context: Context, *, consumed: bool = False
) -> Tensors:
    """Return the model that symbols describe; tensors that they leave out stay as in `base`.

    Parameters
    ----------
    consumed
        Whether symbols are taken out of the dictionary while the model grows, to save memory.
    """
    take = symbols.pop if consumed else symbols.__getitem__
    model: Tensors = {}
    for name, spec in context.manifest.by_name.items():
        if name not in symbols:
            model |= {name: base[name]} if name in base else {}
            continue
        decoded = codec.reconstruct({name: take(name)}, context)
        if codec.mode == "delta":
            decoded = add({name: base[name]}, decoded)
        value = narrowed(decoded[name], np.dtype(spec.dtype))
        if name.endswith("running_var") and spec.kind is Kind.BUFFER:
            # What a codec loses must not make a variance negative.
            value = np.asarray(np.maximum(value, 0))
        model[name] = value
    return model
