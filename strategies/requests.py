"""Turning a strategy's message into the one that travels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import Message, RecordDict

from fedcomp.errors import LinkError
from fedcomp.wire import keys
from fedcomp.wire.records import blob_record, downlink_record
from strategies.exchange import Sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.link.server import ServerLink
    from strategies.exchange import Exchange


def pack(
    exchange: Exchange,
    link: ServerLink,
    site: str,
    request: Message,
    size: Callable[[Message], int],
) -> Message:
    """Build and book the message for one client; the request's content is shared by all."""
    records = list(request.content.array_records.items())
    if len(records) != 1:
        msg = f"a strategy's message carries one array record, this one {len(records)}"
        raise LinkError(msg)
    sent, fields = link.downlink(site, side=exchange.purpose == "train")
    content = RecordDict(dict(request.content.items()))
    content[records[0][0]] = blob_record(sent.blob)
    content[keys.FIELDS] = downlink_record(fields, exchange.round)
    meta = request.metadata
    message = Message(
        content, meta.dst_node_id, meta.message_type, ttl=meta.ttl, group_id=meta.group_id
    )
    sizes = Sizes(size(message), sent.payload_bytes, len(sent.blob), sent.side_bytes)
    exchange.book(site, "downlink", sent.kind, sent.codec, sizes, sent.seconds)
    return message
