"""What both ends of a link agree on before the first packet, and the lossy step they share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fedcomp.codecs.base import Codec, Context, Direction, Symbols
from fedcomp.codecs.none import NoCompression
from fedcomp.errors import BitstreamError
from fedcomp.tensors import Manifest, Tensors, add, subtract

if TYPE_CHECKING:
    from fedcomp.wire.packet import Packet

KEYFRAME_CODEC = NoCompression()


@dataclass(frozen=True)
class Session:
    """A run, a model and the two codecs: everything that packets refer to by hash."""

    manifest: Manifest
    run_id: str
    seed: int
    uplink: Codec
    downlink: Codec

    @cached_property
    def digest(self) -> bytes:
        """The session field of every packet."""
        return hashlib.sha256(self.manifest.digest + self.run_id.encode()).digest()[:4]

    def context(
        self, direction: Direction, round_number: int, reference: Tensors, client: str = ""
    ) -> Context:
        """Return the context of one packet."""
        return Context(self.manifest, self.seed, round_number, direction, client, reference)

    def check(self, packet: Packet, *codecs: Codec) -> None:
        """Raise unless the packet belongs to this session and was written by one of `codecs`."""
        if packet.session != self.digest:
            msg = (
                f"the packet belongs to session {packet.session.hex()}, this end runs"
                f" {self.digest.hex()}: another run, or another model"
            )
            raise BitstreamError(msg)
        if packet.codec not in {codec.id for codec in codecs}:
            known = ", ".join(f"{codec.name} {codec.id.hex()}" for codec in codecs)
            msg = (
                f"the packet was written by codec {packet.codec.hex()}, expected {known}: both ends"
                " need the same codec with the same settings"
            )
            raise BitstreamError(msg)


def lossy(
    codec: Codec, target: Tensors, base: Tensors, context: Context
) -> tuple[Symbols, Tensors]:
    """Quantise `target` as the codec's mode asks; return the symbols and what the receiver sees."""
    given = subtract(target, base) if codec.mode == "delta" else target
    symbols = codec.quantise(given, context)
    return symbols, restore(codec, symbols, base, context)


def restore(codec: Codec, symbols: Symbols, base: Tensors, context: Context) -> Tensors:
    """Return the model that symbols describe; tensors that they leave out stay as in `base`."""
    decoded = codec.reconstruct(symbols, context)
    if codec.mode == "delta":
        return add(base, decoded)
    return {
        name: decoded[name].astype(spec.dtype, copy=False) if name in decoded else base[name]
        for name, spec in context.manifest.by_name.items()
        if name in decoded or name in base
    }
