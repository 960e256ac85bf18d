"""Symbols of replies that were used, for codecs whose next packet refers to the last one."""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import BitstreamError
from fedcomp.wire.fields import NO_EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.codecs.base import Symbols
    from fedcomp.link.received import Received
    from fedcomp.link.session import Session
    from fedcomp.tensors import Tensors

_ROUND = struct.Struct("<I")


class SentSymbols:
    """By client the last used symbols, packed; those of the clients unseen for longest go first.

    A client whose symbols are gone is told so and writes a packet that refers to nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, tuple[bytes, bytes]] = OrderedDict()
        self._bytes = 0

    def exchange(self, site: str) -> bytes:
        """Return the exchange whose symbols are here."""
        return self._kept.get(site, (NO_EXCHANGE, b""))[0]

    def symbols(self, site: str, exchange: bytes, session: Session) -> Mapping[str, Any] | None:
        """Return the symbols of an exchange that a client refers to."""
        if exchange == NO_EXCHANGE:
            return None
        found, payload = self._kept.get(site, (NO_EXCHANGE, b""))
        if found != exchange:
            msg = f"the reply refers to symbols of exchange {exchange.hex()}, which are not here"
            raise BitstreamError(msg)
        return unpack_alone(payload, session)

    def keep(self, site: str, exchange: bytes, reply: Received, session: Session) -> None:
        """Keep the symbols of a reply that was used, if the codec will ask for them."""
        if not session.uplink.needs_previous:
            return
        self._drop(site)
        payload = pack_alone(reply.unpack(), session, reply.round)
        self._kept[site] = exchange, payload
        self._bytes += len(payload)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def save(self) -> tuple[Tensors, dict[str, str]]:
        """Return payloads as arrays, and exchanges, both by client."""
        arrays = {site: np.frombuffer(data, np.uint8) for site, (_, data) in self._kept.items()}
        return arrays, {site: exchange.hex() for site, (exchange, _) in self._kept.items()}

    def load(self, arrays: Tensors, exchanges: dict[str, str]) -> None:
        """Take up what `save` returned, the arrays under "previous.<site>"."""
        self._kept.clear()
        for site, exchange in exchanges.items():
            self._kept[site] = bytes.fromhex(exchange), arrays[f"previous.{site}"].tobytes()
        self._bytes = sum(len(data) for _, data in self._kept.values())

    def _drop(self, site: str) -> None:
        self._bytes -= len(self._kept.pop(site, (b"", b""))[1])


def pack_alone(symbols: Symbols, session: Session, round_number: int) -> bytes:
    """Return symbols of a round as bytes that need nothing but the manifest."""
    context = session.context("uplink", round_number, {})
    return _ROUND.pack(round_number) + session.uplink.pack(symbols, context)


def unpack_alone(payload: bytes, session: Session) -> Mapping[str, Any]:
    """Read what `pack_alone` wrote, tensors when they are looked up."""
    (round_number,) = _ROUND.unpack_from(payload)
    context = session.context("uplink", round_number, {})
    return session.uplink.lazy(payload[_ROUND.size :], context)
