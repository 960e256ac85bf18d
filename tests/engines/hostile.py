"""A client that lies in every reply, and the lies that it tells.

Each lie turns the genuine reply into one that no client of this project would send at this moment.
What would be a reply of another honest client is left out on purpose: another client's packet of
the same round, or changed levels under a right CRC-32, are updates like any other.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedcomp.codecs.levels import Levels
from fedcomp.coding.quantise import STEP_BOUND
from fedcomp.errors import CodecError
from fedcomp.link.client import ClientLink
from fedcomp.link.update import Update
from fedcomp.wire import keys
from fedcomp.wire.packet import HEADER_BYTES, Flag, read_chain
from fedcomp.wire.records import blob_record
from fedcomp.wire.side import write_side
from fedcomp.wire.sizes import message_size
from tests.coding.hostile import mutate

BOUNDS = ("link.max_update_norm=30", "link.max_examples=1000")
"""What the lies of `huge` ones are beyond, and honest clients of the tests are not."""

CRC_AT = HEADER_BYTES - 4
INFINITE, UNDEFINED = struct.pack("<f", np.inf), struct.pack("<f", np.nan)


@dataclass
class Reply:
    """A genuine reply, and what a hostile client knows beside it.

    Attributes
    ----------
    own, others
        Packets of earlier rounds, its own and those of other clients.
    replies
        Its own whole replies of earlier rounds.
    """

    content: RecordDict
    link: ClientLink
    update: Update
    own: list[bytes]
    others: list[bytes]
    replies: list[RecordDict]

    @property
    def blob(self) -> bytes:
        return self.content.array_records[keys.ARRAYS][keys.BLOB].data

    def put(self, name: str, record: Any) -> RecordDict:
        """Return the content with another record; None leaves it out."""
        records = {n: r for n, r in self.content.items() if n != name}
        return RecordDict(records if record is None else {**records, name: record})

    def packet(self, blob: bytes) -> RecordDict:
        """Return the content with another packet."""
        return self.put(keys.ARRAYS, blob_record(blob))

    def array(self, **changes: Any) -> RecordDict:
        """Return the content with the packet in another array."""
        values = {"dtype": "uint8", "shape": (len(self.blob),), "stype": keys.STYPE, **changes}
        return self.put(keys.ARRAYS, ArrayRecord({keys.BLOB: Array(**values, data=self.blob)}))

    def metrics(self, **changes: Any) -> RecordDict:
        """Return the content with other metrics; None leaves one out."""
        return self.put(keys.METRICS, MetricRecord(self._changed(keys.METRICS, changes)))

    def fields(self, **changes: Any) -> RecordDict:
        """Return the content with other fields; None leaves one out."""
        return self.put(keys.FIELDS, ConfigRecord(self._changed(keys.FIELDS, changes)))

    def _changed(self, name: str, changes: dict[str, Any]) -> Any:
        values = {**dict(self.content[name].items()), **changes}
        return {n: value for n, value in values.items() if value is not None}

    def sealed(self, at: int, value: bytes) -> RecordDict:
        """Return the content with bytes of the header replaced, and a right CRC-32."""
        head = self.blob[:at] + value + self.blob[at + len(value) : CRC_AT]
        return self.packet(with_crc(head, self.blob[HEADER_BYTES:]))

    def payload(self, data: bytes, side: bytes = b"") -> RecordDict:
        """Return the content with another payload in a packet that is right otherwise."""
        (packet,) = read_chain(self.blob)
        return self.packet(replace(packet, payload=data, side=side).to_bytes())


def with_crc(head: bytes, rest: bytes) -> bytes:
    crc = zlib.crc32(rest, zlib.crc32(head))
    return head + crc.to_bytes(4, "little") + rest


Lie = Callable[[random.Random, Reply], "RecordDict | Error | None"]
LIES: dict[str, Lie] = {}


def lie(function: Lie) -> Lie:
    LIES[function.__name__] = function
    return function


@lie
def flipped(rng: random.Random, reply: Reply) -> RecordDict:
    data = bytearray(reply.blob)
    for at in rng.sample(range(8 * len(data)), rng.randint(1, 3)):
        data[at // 8] ^= 1 << at % 8
    return reply.packet(bytes(data))


@lie
def cut_short(rng: random.Random, reply: Reply) -> RecordDict:
    return reply.packet(reply.blob[: rng.randrange(len(reply.blob))])


@lie
def extended(rng: random.Random, reply: Reply) -> RecordDict:
    more = [bytes(1), rng.randbytes(rng.randint(1, 500)), reply.blob, bytes(10**6)]
    return reply.packet(reply.blob + rng.choice(more))


@lie
def mutated(rng: random.Random, reply: Reply) -> RecordDict | None:
    data = mutate(rng, reply.blob, rng.choice([*reply.own, *reply.others, reply.blob]))
    return reply.packet(data) if data != reply.blob else None


@lie
def noise(rng: random.Random, reply: Reply) -> RecordDict:
    return reply.packet(rng.randbytes(rng.choice([0, 1, 36, len(reply.blob)])))


@lie
def spliced(rng: random.Random, reply: Reply) -> RecordDict | None:
    if not (reply.own or reply.others):
        return None
    other = rng.choice(reply.own + reply.others)
    data = reply.blob[: rng.randrange(len(reply.blob))] + other[rng.randrange(len(other)) :]
    return reply.packet(data) if data != reply.blob else None


@lie
def older_packet(rng: random.Random, reply: Reply) -> RecordDict | None:
    return reply.packet(rng.choice(reply.own)) if reply.own else None


@lie
def older_reply(rng: random.Random, reply: Reply) -> RecordDict | None:
    return rng.choice(reply.replies) if reply.replies else None


@lie
def stolen_packet(rng: random.Random, reply: Reply) -> RecordDict | None:
    return reply.packet(rng.choice(reply.others)) if reply.others else None


@lie
def header(rng: random.Random, reply: Reply) -> RecordDict:
    """Other magic, format, codec, session, round, base, version, or flags, with a right CRC-32."""
    (packet,) = read_chain(reply.blob)
    flags = rng.choice([int(Flag.STANDALONE), int(Flag.HELD), int(Flag.ANCHORED), 4, 16, 255])
    at, value = rng.choice(
        [
            (0, rng.randbytes(2)),
            (2, bytes([rng.choice([0, 2, 255])])),
            (3, bytes([flags])),
            (4, rng.randbytes(4)),
            (8, rng.randbytes(4)),
            (12, struct.pack("<I", packet.round + rng.choice([-1, 1, 1000]))),
            (16, rng.choice([bytes(6), rng.randbytes(6)])),
            (22, rng.choice([packet.base, rng.randbytes(6)])),
        ]
    )
    return reply.sealed(at, value)


@lie
def length(rng: random.Random, reply: Reply) -> RecordDict:
    size = len(reply.blob) - HEADER_BYTES
    told = rng.choice([0, size - 1, size + 1, 2**31 - 1, 2**32 - 1])
    return reply.sealed(28, struct.pack("<I", told))


@lie
def payload_of_another_length(rng: random.Random, reply: Reply) -> RecordDict:
    data = reply.blob[HEADER_BYTES:]
    less = data[: rng.randrange(len(data))]
    return reply.payload(rng.choice([less, data + bytes(1), data + rng.randbytes(30)]))


@lie
def not_a_number(rng: random.Random, reply: Reply) -> RecordDict | None:
    return encoded(rng, reply, np.nan)


@lie
def infinite(rng: random.Random, reply: Reply) -> RecordDict | None:
    return encoded(rng, reply, rng.choice([np.inf, -np.inf]))


@lie
def huge(rng: random.Random, reply: Reply) -> RecordDict | None:
    return encoded(rng, reply, rng.choice([1e6, 1e30, 3e38]))


def encoded(rng: random.Random, reply: Reply, value: float) -> RecordDict | None:
    """Let the real codec write a value, or its integers with a step that no sender has."""
    codec, context = reply.link.session.uplink, reply.link._context()
    try:
        tensors = codec.reconstruct(reply.update.symbols, context)
        name = rng.choice(sorted(n for n, v in tensors.items() if v.dtype.kind == "f" and v.size))
        changed = tensors[name].copy()
        changed.flat[rng.randrange(changed.size)] = value
        return reply.payload(codec.encode({**tensors, name: changed}, context))
    except CodecError:
        pass
    symbols = dict(reply.update.symbols)
    filled = sorted(n for n, s in symbols.items() if isinstance(s, Levels) and s.step)
    if not filled:
        return None
    name = rng.choice(filled)
    finite = float(np.float32(min(abs(value), STEP_BOUND * 0.999)))
    symbols[name] = symbols[name]._replace(step=finite if np.isfinite(value) else np.inf)
    data = codec.pack(symbols, context)
    return reply.payload(data.replace(INFINITE, UNDEFINED) if np.isnan(value) else data)


@lie
def side(rng: random.Random, reply: Reply) -> RecordDict:
    """Side information that announces more than it holds, or nothing that can be read."""
    data = reply.blob[HEADER_BYTES:]
    scores = write_side({"scores": np.ones(9, np.float32)})
    wrong = [
        scores[:-1],
        scores + bytes(1),
        bytes(1),
        rng.randbytes(40),
        b"\1\1g\2\2" + struct.pack("<2I", 2**32 - 1, 2**32 - 1),
        b"\1\1g\0\3" + struct.pack("<3I", 0, 2**31, 2**31),
        b"\xff" + scores[1:],
    ]
    return reply.payload(data, rng.choice(wrong))


@lie
def array_of_another_kind(rng: random.Random, reply: Reply) -> RecordDict:
    size = len(reply.blob)
    return reply.array(
        **rng.choice(
            [
                {"stype": "numpy.ndarray"},
                {"stype": ""},
                {"dtype": "float32"},
                {"dtype": "x" * 10**5},
                {"shape": ()},
                {"shape": (size + 1,)},
                {"shape": (2**62, 2**62)},
                {"shape": (1,) * 10**4},
                {"shape": (-size,)},
            ]
        )
    )


@lie
def arrays(rng: random.Random, reply: Reply) -> RecordDict:
    """None, several, plain ones, or ones under another name."""
    record = blob_record(reply.blob)
    plain = ArrayRecord({"w": Array(np.zeros(3, np.float32))})
    twice = ArrayRecord(dict.fromkeys((keys.BLOB, "c"), record[keys.BLOB]))
    renamed = RecordDict({**reply.put(keys.ARRAYS, None), "other": record})
    more = {f"a{number}": record for number in range(300)}
    return rng.choice(
        [
            reply.put(keys.ARRAYS, None),
            reply.put(keys.ARRAYS, plain),
            reply.put(keys.ARRAYS, twice),
            reply.put(keys.ARRAYS, ArrayRecord()),
            reply.put(keys.ARRAYS, ConfigRecord({keys.BLOB: reply.blob})),
            reply.put("more", record),
            renamed,
            RecordDict({**dict(reply.content.items()), **more}),
        ]
    )


@lie
def examples(rng: random.Random, reply: Reply) -> RecordDict:
    values = [-1000, 0, 1001, 10**9, 2**40, 2**62, -1.5, 1e300, np.nan, np.inf, [360], [1, 2], None]
    return reply.metrics(**{keys.EXAMPLES: rng.choice(values)})


@lie
def metrics(rng: random.Random, reply: Reply) -> RecordDict:
    name = rng.choice([keys.TRAIN_LOSS, "other"])
    bad = {name: rng.choice([np.nan, np.inf, -np.inf, [1.0], [1.0] * 10**5])}
    unknown = {rng.choice(["extra", "", "x" * 10**5, "\x1b[2J\nround 1: site 0 failed"]): 1.0}
    fewer = {keys.TRAIN_LOSS: None}
    many = {f"m{number}": 1.0 for number in range(10**4)}
    return reply.metrics(**rng.choice([bad, bad, unknown, unknown, fewer, many]))


@lie
def wrong_loss(rng: random.Random, reply: Reply) -> RecordDict:
    name = rng.choice([n for n in reply.content[keys.METRICS] if n != keys.EXAMPLES])
    return reply.metrics(**{name: rng.choice([np.nan, np.inf, [1.0], None])})


@lie
def metric_records(rng: random.Random, reply: Reply) -> RecordDict:
    plain = ConfigRecord(dict(reply.content[keys.METRICS].items()))
    renamed = RecordDict({**reply.put(keys.METRICS, None), "m": reply.content[keys.METRICS]})
    return rng.choice(
        [
            reply.put(keys.METRICS, None),
            reply.put(keys.METRICS, plain),
            reply.put("more", MetricRecord({"x": 1.0})),
            renamed,
        ]
    )


@lie
def exchange(rng: random.Random, reply: Reply) -> RecordDict:
    own = reply.content[keys.FIELDS][keys.EXCHANGE]
    older = [old[keys.FIELDS][keys.EXCHANGE] for old in reply.replies]
    values = [rng.randbytes(12), bytes(12), own[:-1], own + b"x", own.hex(), 7, None, *older[-3:]]
    return reply.fields(**{keys.EXCHANGE: rng.choice(values)})


@lie
def other_fields(rng: random.Random, reply: Reply) -> RecordDict:
    name, value = rng.choice(
        [
            (keys.VERSION, b""),
            (keys.VERSION, bytes(10**6)),
            (keys.VERSION, 2**62),
            (keys.VERSION, None),
            (keys.PREVIOUS, rng.randbytes(12)),
            (keys.PREVIOUS, b"short"),
            (keys.PREVIOUS, ["x"] * 10**4),
            (keys.DIGEST, bytes(31)),
            (keys.DIGEST, "digest"),
            (keys.TRAIN_SECONDS, np.nan),
            (keys.TRAIN_SECONDS, -1.0),
            (keys.DECODE_SECONDS, np.inf),
            (keys.ENCODE_SECONDS, "soon"),
            (keys.ENCODE_SECONDS, [1.0] * 10**4),
        ]
    )
    return reply.fields(**{name: value})


@lie
def no_fields(rng: random.Random, reply: Reply) -> RecordDict:
    return reply.put(keys.FIELDS, rng.choice([None, ConfigRecord(), MetricRecord({"x": 1})]))


@lie
def nothing(rng: random.Random, reply: Reply) -> RecordDict:
    return RecordDict()


@lie
def refusal(rng: random.Random, reply: Reply) -> RecordDict:
    """A client that holds all it needs asks for a keyframe."""
    texts = ["", "I lost it", "\x1b]0;owned\x07\nround 9: site 0 failed", "no " * 10**5]
    values = {keys.NACK: rng.choice([*texts, 5, b"bytes", [1.0] * 1000])}
    values |= rng.choice([{}, {}, {keys.DIVERGED: True}, {keys.STALE: True}, {keys.STALE: "x"}])
    return RecordDict({keys.FIELDS: ConfigRecord(values)})


@lie
def refusal_with_a_reply(rng: random.Random, reply: Reply) -> RecordDict:
    return reply.fields(**{keys.NACK: "no"})


@lie
def error(rng: random.Random, reply: Reply) -> Error:
    return Error(
        rng.choice([0, 2, -1, 10**6]),
        rng.choice(["", "no", "\x1b[31mred\nround 2: site 1 failed", "x" * 10**6]),
    )


EVALUATION_LIES: dict[str, Lie] = {
    made.__name__: made for made in (examples, no_fields, nothing, refusal, error, wrong_loss)
}
"""Replies without a packet hold less to lie about."""


@dataclass
class Villain:
    """Lies in the name of one client, each lie of a seeded order in turn.

    Attributes
    ----------
    told
        How often each lie was told.
    sent
        The lies as messages, and what they say.
    """

    site: int
    rng: random.Random
    lies: Mapping[str, Lie] = field(default_factory=lambda: LIES)
    told: Counter[str] = field(default_factory=Counter)
    sent: list[tuple[Message, RecordDict | Error]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self._orders: dict[str, list[str]] = {"train": [], "evaluate": []}
        self._made: dict[str, tuple[ClientLink, Update]] = {}
        self._round = 0
        self._own: list[bytes] = []
        self._others: list[bytes] = []
        self._replies: list[RecordDict] = []
        self._new: list[tuple[int, RecordDict]] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the client over in all runs of this process."""
        import clients.app as app_module

        make, answer = app_module.make_app, ClientLink.reply

        def noted(link: ClientLink, update: Update, note: str = "") -> bytes:
            self._made[link.site] = link, update
            return answer(link, update, note)

        def changed(*arguments: Any) -> Any:
            app = make(*arguments)
            return lambda message, context: self._answer(app, message, context)

        patch.setattr(ClientLink, "reply", noted)
        patch.setattr(app_module, "make_app", changed)

    def _answer(self, app: Any, message: Message, context: Any) -> Message:
        purpose = message.metadata.message_type
        if purpose == "query":
            return app(message, context)
        number = message.content[keys.FIELDS][keys.ROUND_FIELD]
        if number != self._round:
            self._learn()
            self._round = number
        reply: Message = app(message, context)
        site = context.node_config["partition-id"]
        if purpose == "train":
            self._new.append((site, reply.content))
        if site != self.site:
            return reply
        lies = self.lies if purpose == "train" else EVALUATION_LIES
        told = self._lie(reply, lies, self._orders[purpose])
        lied = Message(told, reply_to=message)
        self.sent.append((lied, told))
        return lied

    def sent_bytes(self) -> int:
        """Return what the lies took as messages; the server takes some of them apart."""
        for message, told in self.sent:
            if isinstance(told, RecordDict):
                message.content = told
        return sum(message_size(message) for message, _ in self.sent)

    def _learn(self) -> None:
        """Remember what was sent in the last round, which would have been right there."""
        for site, content in self._new:
            blob = content[keys.ARRAYS][keys.BLOB].data
            (self._own if site == self.site else self._others).append(blob)
            self._replies += [content] if site == self.site else []
        self._new.clear()

    def _lie(self, reply: Message, lies: Mapping[str, Lie], order: list[str]) -> RecordDict | Error:
        made = self._made[str(self.site)]
        known = Reply(reply.content, *made, self._own, self._others, self._replies)
        later: list[str] = []
        while True:
            if not order:
                order += self.rng.sample(sorted(lies), len(lies))
            name = order.pop()
            found = lies[name](self.rng, known)
            if found is not None:
                self.told[name] += 1
                order += later
                return found
            later.append(name)  # cannot be told yet
