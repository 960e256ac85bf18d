"""The client's seam to Flower: packets become tensors, and tensors become packets.

The mod is the outermost one of the app, so that other mods (clipping, local DP) see plain arrays.
A function behind it finds the open `ClientLink` in the record that it received.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, Context, Message, MessageType, RecordDict

from clients.answers import again, check_clipping, check_site, refusal
from fedcomp.errors import LinkError
from fedcomp.link.update import Update
from fedcomp.wire import keys
from fedcomp.wire.records import (
    blob_of,
    blob_record,
    downlink_fields,
    from_record,
    is_blob,
    reply_record,
    to_record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.link.client import ClientLink
    from fedcomp.tensors import Tensors


class OpenArrays(ArrayRecord):
    """The arrays of a decoded message, with the link they came through."""

    def __init__(self, link: ClientLink, *, arrays: bool) -> None:
        super().__init__()
        if arrays:
            for name, array in to_record(link.received).items():
                self[name] = array
        self.link = link


class Finished(ArrayRecord):
    """A reply's arrays as tensors or a finished update; only the mod looks inside."""

    def __init__(self, made: Tensors | Update, side: Tensors) -> None:
        super().__init__()
        self.made = made
        self.side = side


class CompressionMod:
    """Open a `ClientLink` for each message and pack what the app returns.

    Parameters
    ----------
    link
        Makes the link of a context's client.
    arrays
        Whether to put the received arrays in the record too, for apps that do not use the link.
    """

    def __init__(self, link: Callable[[Context], ClientLink], *, arrays: bool = True) -> None:
        self._link = link
        self._arrays = arrays

    def __call__(
        self, message: Message, context: Context, call_next: Callable[[Message, Context], Message]
    ) -> Message:
        """Decode the message, call the app, encode its reply."""
        key = _blob_key(message.content)
        if key is None:
            return call_next(message, context)
        link = self._link(context)
        began = time.perf_counter()
        record = message.content.config_records[keys.FIELDS]
        check_site(record, link.site)
        fields, number = downlink_fields(record)
        try:
            link.open(blob_of(message.content.array_records[key]), fields, number)
        except LinkError as error:
            return refusal(message, error)
        if link.answered is not None:
            return again(message, link, link.answered)
        opened = time.perf_counter()
        del message.content[key]  # Flower warns where a record's type changes
        message.content[key] = OpenArrays(link, arrays=self._arrays)
        del message.content[keys.FIELDS]  # other mods expect no record but the strategy's
        check_clipping(message.content, link)
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        seconds = {keys.DECODE_SECONDS: opened - began}
        trained = time.perf_counter()
        if message.metadata.message_type.startswith(MessageType.TRAIN):
            self._pack(reply.content, link)
            seconds[keys.TRAIN_SECONDS] = trained - opened
            seconds[keys.ENCODE_SECONDS] = time.perf_counter() - trained
        record = reply_record(link.reply_fields())
        record.update(seconds)
        reply.content[keys.FIELDS] = record
        return reply

    @staticmethod
    def _pack(content: RecordDict, link: ClientLink) -> None:
        """Replace the one array record of a reply by a packet."""
        (key, record), *others = content.array_records.items()
        if others:
            msg = f"a reply carries one array record, this one {1 + len(others)}"
            raise LinkError(msg)
        made = record.made if isinstance(record, Finished) else from_record(record)
        side = record.side if isinstance(record, Finished) else {}
        if not isinstance(made, Update):
            symbols, _ = link.quantise(made)
            made = Update(symbols, made, side)
        del content[key]
        note = {name: dict(metrics) for name, metrics in content.metric_records.items()}
        content[key] = blob_record(link.reply(made, json.dumps([key, note])))


def _blob_key(content: RecordDict) -> str | None:
    for key, record in content.array_records.items():
        if is_blob(record):
            return key
    return None
