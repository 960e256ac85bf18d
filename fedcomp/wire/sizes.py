"""Sizes of messages as protobuf, without writing their packets out.

A field takes a tag of one byte, its length as a varint, and its bytes; a packet lies five fields
deep in a message: content, item, array record, item, array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import RecordDict

from fedcomp.wire.keys import BLOB
from fedcomp.wire.private import content_bytes, message_bytes
from fedcomp.wire.records import is_blob

if TYPE_CHECKING:
    from flwr.app import Array, Message


def message_size(message: Message) -> int:
    """Return the number of bytes in which Flower sends the message."""
    if message.has_error():
        return message_bytes(message)
    full = message.content
    packets = {key: r[BLOB] for key, r in full.array_records.items() if is_blob(r)}
    message.content = RecordDict({k: r for k, r in full.items() if k not in packets})
    try:
        total, rest = message_bytes(message), content_bytes(message.content)
    finally:
        message.content = full
    items = sum(_field(_item_bytes(key, array)) for key, array in packets.items())
    return total - _field(rest) + _field(rest + items)


def _item_bytes(key: str, array: Array) -> int:
    """Return the size of a packet's record as an item of a message's content."""
    texts = array.dtype, array.stype
    value = sum(_filled(len(text.encode())) for text in texts) + _filled(len(array.data))
    value += _filled(sum(map(_varint, array.shape)))
    record = _field(_filled(len(BLOB)) + _field(value))
    return _filled(len(key.encode())) + _field(record)


def _field(size: int) -> int:
    """Return the size of a field with that many bytes.

    Examples
    --------
    >>> _field(0), _field(127), _field(128)
    (2, 129, 131)
    """
    return 1 + _varint(size) + size


def _filled(size: int) -> int:
    """Return the size of a text or of bytes, of which empty ones are left out."""
    return _field(size) if size else 0


def _varint(value: int) -> int:
    if value < 0:  # as 64 bits
        return 10
    return max(1, (value.bit_length() + 6) // 7)
