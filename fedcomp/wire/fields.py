"""What a message says about one client beside its packet."""

from __future__ import annotations

from dataclasses import dataclass

EXCHANGE_BYTES = 12
NO_EXCHANGE = bytes(EXCHANGE_BYTES)


@dataclass(frozen=True, slots=True)
class Downlink:
    """What the server tells a client.

    Attributes
    ----------
    exchange
        Name of this exchange; later ones are larger.
    used
        The client's last exchange whose reply the server used (its ack).
    previous
        The exchange whose symbols the server still has for `Context.previous`.
    plateaus
        How often the training loss has stopped falling, for adaptive schedules of the uplink.
    """

    exchange: bytes
    used: bytes = NO_EXCHANGE
    previous: bytes = NO_EXCHANGE
    plateaus: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client claims.

    Attributes
    ----------
    exchange
        The exchange that it answers.
    version
        The version it holds.
    previous
        The exchange whose symbols its packet was written with.
    digest
        Hash of the model it holds, where that is to be proved.
    """

    exchange: bytes
    version: bytes
    previous: bytes = NO_EXCHANGE
    digest: bytes = b""
