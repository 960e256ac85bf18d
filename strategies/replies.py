"""Looking at replies before a strategy does: one bad reply must not touch the round.

Everything in a reply is a claim.  What is accepted is one packet and one record of finite numbers;
nothing of a refused reply is used, but its bytes are booked.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

from flwr.app import MetricRecord, RecordDict

from fedcomp.errors import BitstreamError, DivergedError, brief
from fedcomp.link.settings import MOST_EXAMPLES
from fedcomp.wire import keys
from fedcomp.wire.records import blob_of, fields_of, is_blob, lazy_record, reply_fields
from fedcomp.wire.sizes import message_size
from strategies.aggregate import strategy_specs
from strategies.exchange import Sizes

if TYPE_CHECKING:
    from flwr.app import Message

    from fedcomp.link.received import Received
    from fedcomp.link.server import ServerLink
    from strategies.exchange import Exchange


_MOST_SECONDS = 1e8
"""Three years: no work of a client takes longer."""


def judge(exchange: Exchange, link: ServerLink, site: str, reply: Message) -> bool:
    """Decode a reply in place, or note why not; tell whether the strategy may have it."""
    if reply.has_error():
        discard(exchange, site, reply, "error")
        exchange.fail(site, reply.error.reason or "an error without a reason")
        return False
    try:
        accept(exchange, link, site, reply)
    except DivergedError:
        raise
    except Exception as error:
        exchange.fail(site, f"the reply is refused: {error}")
        return False
    return True


def accept(exchange: Exchange, link: ServerLink, site: str, reply: Message) -> None:
    """Check, decode and book a reply; raise `BitstreamError` with nothing used of a bad one."""
    began = time.perf_counter()
    content = reply.content
    fields = fields_of(content)
    size = message_size(reply)
    kind, codec, sizes, spent = "message", "", Sizes(size), 0.0
    try:
        blobs = [blob_of(record) for record in content.array_records.values()]
        if blobs:
            kind, codec = "refused", link.session.uplink.name
            sizes = Sizes(size, packet=sum(map(len, blobs)))
        seconds = {name: _seconds(fields[name]) for name in keys.SECONDS if name in fields}
        spent = seconds.get(keys.ENCODE_SECONDS, 0.0)
        claims = reply_fields(fields)
        most = link.session.link.max_examples
        checked = RecordDict({keys.METRICS: _metrics(content, most or MOST_EXAMPLES)})
        if exchange.purpose == "train":
            if len(blobs) != 1 or keys.ARRAYS not in content.array_records:
                _refuse(f"carries {len(blobs)} array records, expected one named {keys.ARRAYS}")
            received = link.uplink(site, blobs[0], claims, exchange.round)
            sizes = Sizes(size, received.payload_bytes, len(blobs[0]), received.side_bytes)
            if _is_empty(received, link):
                _refuse("holds no tensor: nothing was trained")
            kind = link.session.uplink.mode
            specs = strategy_specs(link.session.manifest)
            checked[keys.ARRAYS] = lazy_record(specs, exchange.view(received.tensor))
            exchange.received[site], exchange.side[site] = received, received.side
        elif blobs:
            _refuse("carries arrays although none were asked for")
    finally:
        exchange.book(site, "uplink", kind, codec, sizes, spent)
    link.confirm(site, claims)
    for name, value in seconds.items():
        exchange.seconds[name] += value
    decoding = time.perf_counter() - began
    exchange.seconds[keys.DECODE_SECONDS] += decoding
    exchange.server_seconds += decoding
    reply.content = checked
    exchange.replies[site] = reply


def work_seconds(reply: Message) -> float:
    """Return what a client says that its work took; what is no time counts as none."""
    content = reply.content if reply.has_content() else RecordDict()
    fields = fields_of(content)
    given = [fields.get(name) for name in keys.SECONDS]
    return sum(v for v in given if isinstance(v, int | float) and 0 <= v <= _MOST_SECONDS)


def discard(exchange: Exchange, site: str, reply: Message, kind: str) -> None:
    """Book a reply that is not used, and look no closer."""
    records = reply.content.array_records.values() if reply.has_content() else ()
    packet = sum(len(record[keys.BLOB].data) for record in records if is_blob(record))
    exchange.book(site, "uplink", kind, "", Sizes(message_size(reply), packet=packet))


def refuse_odd_metrics(exchange: Exchange) -> None:
    """Refuse replies whose metrics have other names than most: strategies average by name."""
    names = {
        site: frozenset(reply.content.metric_records[keys.METRICS])
        for site, reply in exchange.replies.items()
    }
    if not names:
        return
    usual = Counter(names.values()).most_common(1)[0][0]
    for site, found in names.items():
        if found != usual:
            del exchange.replies[site]
            exchange.received.pop(site, None)
            exchange.side.pop(site, None)
            shown = brief(sorted(found)), brief(sorted(usual))
            exchange.fail(site, f"its metrics are {shown[0]}, those of most {shown[1]}")


def _metrics(content: RecordDict, most: int) -> MetricRecord:
    records = content.metric_records
    if list(records) != [keys.METRICS]:
        _refuse(f"carries metric records {brief(list(records))}, expected one: {keys.METRICS}")
    record = records[keys.METRICS]
    for name, value in record.items():
        if isinstance(value, list) or not math.isfinite(value):
            _refuse(f"reports {brief(name)} = {brief(value)}, expected a finite number")
    examples = record.get(keys.EXAMPLES)
    if isinstance(examples, list) or not 0 < (examples or 0) <= most:
        allowed = f"allowed are 1 to {most} (link.max_examples)"
        _refuse(f"reports {keys.EXAMPLES} = {brief(examples)}, {allowed}")
    return record


def _is_empty(received: Received, link: ServerLink) -> bool:
    """Tell whether a reply brings no tensor; the smallest ones tell it with the least work."""
    specs = sorted(link.session.manifest.specs, key=lambda spec: spec.size)
    return all(received.tensor(spec.name) is link.exact[spec.name] for spec in specs)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value < float("inf"):
        _refuse(f"reports {brief(value)} as a time")
    return float(value)


def _refuse(reason: str) -> NoReturn:
    msg = f"the reply {reason}"
    raise BitstreamError(msg)
