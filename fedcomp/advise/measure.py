"""What a codec makes of one update: bytes of a real packet, what is lost, how long it takes.

    error = ‖x − x̂‖² / ‖x‖²        cosine = ⟨x, x̂⟩ / (‖x‖·‖x̂‖)

x is what training changed of all parameters, x̂ what the server sees of it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.coding.reader import Reader
from fedcomp.errors import ConfigError
from fedcomp.link.feedback import parameters
from fedcomp.link.session import restore
from fedcomp.tensors import subtract, version_of
from fedcomp.wire.packet import Packet, read_packet

if TYPE_CHECKING:
    from fedcomp.advise.record import Update
    from fedcomp.codecs.base import Codec, Context, Symbols
    from fedcomp.link.session import Session
    from fedcomp.tensors import Array, Tensors

ROUND = 1


@dataclass(frozen=True)
class Measured:
    """One packet of a codec."""

    codec: Codec = field(repr=False)
    payload_bytes: int
    packet_bytes: int
    error: float
    cosine: float
    encode_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class Bench:
    """Puts codecs to the test with one update."""

    session: Session
    update: Update

    @cached_property
    def change(self) -> Tensors:
        """What training changed, by tensor."""
        return subtract(self.update.after, self.update.before)

    @cached_property
    def _energy(self) -> float:
        wanted = parameters(self.change, self.session.manifest)
        energy = sum(_dot(value, value) for value in wanted.values())
        if not energy:
            msg = "the update changes nothing: both of its models are the same; give two others"
            raise ConfigError(msg)
        return energy

    def tried(self, codec: Codec) -> tuple[int, Symbols]:
        """Return the length of a codec's packet, and its symbols."""
        context = self._context()
        symbols = codec.quantise(self._given(codec), context)
        return len(self._packet(codec, codec.pack(symbols, context))), symbols

    def error(self, codec: Codec, symbols: Symbols) -> float:
        """Return what symbols lose."""
        return self._compared(self._seen(codec, symbols))[0]

    def measured(self, codec: Codec) -> Measured:
        """Write a packet, read it, and measure both; what has to be loaded first does not count."""
        first = self._timed(codec)
        again = self._timed(codec)
        seconds = [min(pair) for pair in zip(first[2:], again[2:], strict=True)]
        payload, packet = first[:2]
        read = read_packet(Reader(packet))
        context = self._context()
        error, cosine = self._compared(self._seen(codec, codec.unpack(read.payload, context)))
        return Measured(codec, len(payload), len(packet), error, cosine, *seconds)

    def _timed(self, codec: Codec) -> tuple[bytes, bytes, float, float]:
        context, given = self._context(), self._given(codec)
        began = time.perf_counter()
        payload = codec.encode(given, context)
        packet = self._packet(codec, payload)
        written = time.perf_counter()
        codec.decode(read_packet(Reader(packet)).payload, context)
        return payload, packet, written - began, time.perf_counter() - written

    def _packet(self, codec: Codec, payload: bytes) -> bytes:
        base = version_of(self.update.before)
        return Packet(codec.id, self.session.digest, ROUND, payload, base).to_bytes()

    def _context(self) -> Context:
        return self.session.context("uplink", ROUND, self.update.before, "0")

    def _given(self, codec: Codec) -> Tensors:
        return self.change if codec.mode == "delta" else self.update.after

    def _seen(self, codec: Codec, symbols: Symbols) -> Tensors:
        """Return by how much the server sees the parameters changed."""
        context, base = self._context(), self.update.before
        if codec.mode == "delta":
            seen = codec.reconstruct(symbols, context)
        else:
            seen = subtract(restore(codec, symbols, base, context), base)
        return parameters(seen, self.session.manifest)

    def _compared(self, seen: Tensors) -> tuple[float, float]:
        """Return error and cosine."""
        lost = both = size = 0.0
        for name, value in seen.items():
            wanted = self.change[name]
            rest = wanted.astype(np.float64) - value
            lost += _dot(rest, rest)
            both += _dot(wanted, value)
            size += _dot(value, value)
        length = math.sqrt(size * self._energy)
        return lost / self._energy, both / length if length else 0.0


def _dot(left: Array, right: Array) -> float:
    return float(np.vdot(left.astype(np.float64), right.astype(np.float64)))
