"""Sizes of messages as protobuf, without writing a large packet out for every client."""

from __future__ import annotations

from flwr.app import Array, ArrayRecord, Message, RecordDict

from fedcomp.wire.keys import BLOB, STYPE
from fedcomp.wire.private import content_bytes, message_bytes
from fedcomp.wire.records import is_blob

_SMALL = 1 << 16


class MessageSizer:
    """Measures messages; of those that differ only in the bytes of a large packet, one in full.

    A message is measured without its packet, and the packet's share is taken from the first message
    whose packet and remaining content had the same sizes: protobuf's length fields are then equal.
    """

    def __init__(self) -> None:
        self._shares: dict[tuple[int, int], int] = {}

    def __call__(self, message: Message) -> int:
        """Return the number of bytes in which Flower sends the message."""
        if message.has_error():
            return message_bytes(message)
        blobs = {k: r[BLOB].data for k, r in message.content.array_records.items() if is_blob(r)}
        length = sum(len(blob) for blob in blobs.values())
        if length < _SMALL or len(blobs) != 1:
            return message_bytes(message)
        full = message.content
        hollow = RecordDict(dict(full.items()))
        (key,) = blobs
        del hollow[key]
        empty = Array(dtype="uint8", shape=(length,), stype=STYPE, data=b"")
        hollow[key] = ArrayRecord({BLOB: empty})
        message.content = hollow
        try:
            rest = message_bytes(message)
        finally:
            message.content = full
        shape = (length, content_bytes(hollow))
        if shape not in self._shares:
            self._shares[shape] = message_bytes(message) - rest
        return rest + self._shares[shape]
