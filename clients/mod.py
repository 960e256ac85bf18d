"""The client's seam to Flower: packets become tensors, and tensors become packets.

The mod is the outermost one of the app, so that other mods (clipping, local DP) see plain arrays.
A function behind it finds the open `ClientLink` in the record that it received.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict

from fedcomp.errors import LinkError
from fedcomp.link.client import ClientLink, Update
from fedcomp.wire import keys
from fedcomp.wire.records import blob_of, blob_record, from_record, is_blob, to_record

if TYPE_CHECKING:
    from collections.abc import Callable

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
        began = time.perf_counter()
        link = self._link(context)
        number = int(message.content.config_records[keys.FIELDS][keys.ROUND_FIELD])  # type: ignore[arg-type]
        try:
            link.open(blob_of(message.content.array_records[key]), number)
        except LinkError as error:
            fields = ConfigRecord({keys.NACK: str(error)})
            return Message(RecordDict({keys.FIELDS: fields}), reply_to=message)
        opened = time.perf_counter()
        del message.content[key]  # Flower warns where a record's type changes
        message.content[key] = OpenArrays(link, arrays=self._arrays)
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        fields = ConfigRecord({keys.VERSION: link.version, keys.DECODE_SECONDS: opened - began})
        trained = time.perf_counter()
        if message.metadata.message_type.startswith(MessageType.TRAIN):
            self._pack(reply.content, link)
            fields[keys.TRAIN_SECONDS] = trained - opened
            fields[keys.ENCODE_SECONDS] = time.perf_counter() - trained
        reply.content[keys.FIELDS] = fields
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
        content[key] = blob_record(link.reply(made))


def _blob_key(content: RecordDict) -> str | None:
    for key, record in content.array_records.items():
        if is_blob(record):
            return key
    return None
