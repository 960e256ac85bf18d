"""Turning a strategy's message into the one that travels, and sending it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Message, RecordDict

from fedcomp.errors import LinkError
from fedcomp.wire import keys
from fedcomp.wire.records import blob_record, downlink_record
from fedcomp.wire.sizes import message_size
from strategies.aggregate import strategy_specs
from strategies.exchange import Sizes

if TYPE_CHECKING:
    from flwr.app import ArrayRecord
    from flwr.serverapp import Grid

    from fedcomp.link.broadcast import Sent
    from fedcomp.link.server import ServerLink
    from fedcomp.methods import Lookup
    from fedcomp.tensors import Array, Manifest
    from strategies.exchange import Exchange


def send(
    grid: Grid, exchange: Exchange, link: ServerLink, site: str, request: Message
) -> str | None:
    """Send and book the message for one client; return its id unless that fails."""
    message, sent = _pack(exchange, link, site, request)
    size = message_size(message)
    identifier = push(grid, message)
    if identifier is None:
        exchange.fail(site, "the message could not be sent: Flower's log may say why")
        return None
    sizes = Sizes(size, sent.payload_bytes, len(sent.blob), sent.side_bytes)
    exchange.book(site, "downlink", sent.kind, sent.codec, sizes, sent.seconds)
    return identifier


def push(grid: Grid, message: Message) -> str | None:
    """Hand a message to Flower, alone: of several its grids leave out, or name None, what fails."""
    return next(iter(grid.push_messages([message])), None) or None


def _pack(
    exchange: Exchange, link: ServerLink, site: str, request: Message
) -> tuple[Message, Sent]:
    """Build the message for one client; the request's content is shared by all."""
    records = list(request.content.array_records.items())
    if len(records) != 1:
        msg = f"a strategy's message carries one array record, this one {len(records)}"
        raise LinkError(msg)
    key, record = records[0]
    if exchange.broadcast is None or exchange.broadcast() is not record:
        name = f"{request.metadata.message_type} message to client {site}"
        _check_model(record, exchange.view(link.exact.__getitem__), link.session.manifest, name)
        exchange.broadcast = weakref.ref(record)  # it holds the model: not to be kept alive
    sent, fields = link.downlink(site, side=exchange.purpose == "train")
    content = RecordDict(dict(request.content.items()))
    content[key] = blob_record(sent.blob)
    content[keys.FIELDS] = downlink_record(fields, exchange.round, site)
    meta = request.metadata
    message = Message(
        content, meta.dst_node_id, meta.message_type, ttl=meta.ttl, group_id=meta.group_id
    )
    return message, sent


def _check_model(record: ArrayRecord, exact: Lookup, manifest: Manifest, name: str) -> None:
    """Raise unless a record is the model that the strategy was given: no other one would go."""
    wanted = [spec.name for spec in strategy_specs(manifest)]
    odd = set(wanted) ^ set(record)
    odd = odd or {n for n in wanted if not _is_same(record[n].numpy(), exact(n))}
    if odd:
        msg = (
            f"the strategy's {name} carries arrays of its own, first {min(odd)!r}, and the link"
            " broadcasts one model to all: use a strategy that sends the model it is given"
        )
        raise LinkError(msg)


def _is_same(given: Array, exact: Array) -> bool:
    """Tell whether values are equal, without looking where they lie in the same memory."""
    memory = [(a.ctypes.data, a.strides, a.shape, a.dtype) for a in (given, exact)]
    return memory[0] == memory[1] or np.array_equal(given, exact)
