"""The innermost grid of a deployment."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from google.protobuf.message import DecodeError

import strategies.counted as module
from fedcomp.errors import EngineError
from fedcomp.wire.private import assume_identity, message_bytes, set_message_id, superlink_bytes
from fedcomp.wire.records import blob_record
from strategies.counted import CountedGrid


class Inner:
    """A grid that takes every message but those to node 9, and has the replies it is given."""

    def __init__(self) -> None:
        self.nodes: list[int] = [7]
        self.replies: list[Any] = []

    def get_node_ids(self) -> list[int]:
        return self.nodes

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        for message in messages:
            set_message_id(message, "a" * 64)
        return ["" if m.metadata.dst_node_id == 9 else "a" * 64 for m in messages]

    def pull_messages(self, wanted: Iterable[str]) -> list[Message]:
        """Return replies as Flower does: with metadata that their senders wrote."""
        (_,) = wanted
        found, self.replies = self.replies[:1], self.replies[1:]
        for made in found:
            if isinstance(made, Exception):
                raise made
        return found


@pytest.fixture(autouse=True)
def _setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assume_identity()
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)


def message(size: int, node: int = 7) -> Message:
    content = {
        "arrays": blob_record(random.Random(1).randbytes(size)),
        "fc": ConfigRecord({"r": 1}),
    }
    made = Message(RecordDict(content), node, "train")
    set_message_id(made, "a" * 64)
    return made


def reply(size: int, source: int = 7) -> Message:
    made = Message(RecordDict({"arrays": blob_record(bytes(size))}), reply_to=message(1, source))
    set_message_id(made, "b" * 64)
    return made


def grid(inner: Inner, timeout: float = 1.0) -> CountedGrid:
    return CountedGrid(inner, timeout)  # type: ignore[arg-type]


def test_a_byte_more_is_a_byte_more_one_way_alone() -> None:
    """What is above the payload was measured at 1.6 kB with long node ids."""
    down, up = ([superlink_bytes(make(n)) for n in (1000, 3000)] for make in (message, reply))
    assert [b - a for a, b in zip(*down, strict=True)] == [0, 2000]
    assert [b - a for a, b in zip(*up, strict=True)] == [2000, 0]
    assert 1200 < sum(down[0]) - 1000 < 2000
    assert 1200 < sum(up[0]) - 1000 < 2000


def test_large_packets_go_in_chunks_and_no_second_copy_stays() -> None:
    large = message(12_000_000)
    inbound, outbound = superlink_bytes(large)
    assert 12_001_200 < inbound + outbound < 12_003_000
    record = large.content["arrays"]
    assert isinstance(record, ArrayRecord)
    (array,) = record.values()
    assert not any(isinstance(value, list) and value for value in vars(array).values())


def test_what_was_taken_and_what_came_is_counted() -> None:
    inner = Inner()
    counted = grid(inner)
    assert list(counted.push_messages([message(50), message(50, 9)])) == ["a" * 64, ""]
    one = superlink_bytes(message(50))
    given = [reply(70), reply(90, source=1)]
    inner.replies = given
    assert counted.pull_messages(["a" * 64, "b" * 64, "c" * 64]) == given
    two = superlink_bytes(reply(70))
    assert counted.account() == {
        "superlink_bytes": {"inbound": one[0] + two[0], "outbound": one[1] + two[1]}
    }


def garbled() -> Message:
    """Return a reply that its sender made of parts that do not fit together."""
    made = reply(10)
    content = RecordDict()
    dict.__setitem__(content.__dict__["_data"], "fc", "text")
    made.__dict__["_content"] = content
    return made


def bare() -> Message:
    """Return a reply with neither records nor an error."""
    made = reply(10)
    made.__dict__["_content"] = None
    return made


def test_a_reply_that_cannot_be_read_is_an_error_and_loses_no_other() -> None:
    inner = Inner()
    counted = grid(inner)
    inner.replies = [reply(70), DecodeError("Error parsing"), garbled(), bare(), reply(80)]
    names = [letter * 64 for letter in "vwxyz"]
    found = list(counted.pull_messages(names))
    assert [made.has_error() for made in found] == [False, True, True, True, False]
    assert "the reply cannot be read: DecodeError: Error parsing" in found[1].error.reason
    assert [made.metadata.reply_to_message_id for made in found] == names
    sizes = [superlink_bytes(reply(size)) for size in (70, 80)]
    inbound, outbound = (sum(size) for size in zip(*sizes, strict=True))
    assert counted.account()["superlink_bytes"] == {"inbound": inbound, "outbound": outbound}
    assert min(message_bytes(made) for made in found) > 0


def test_a_superlink_that_cannot_be_reached_is_no_reply() -> None:
    inner = Inner()
    inner.replies = [httpx.ConnectError("refused")]
    with pytest.raises(httpx.ConnectError):
        grid(inner).pull_messages(["a" * 64])


def test_a_reply_answers_what_was_asked_whatever_it_says() -> None:
    inner = Inner()
    inner.replies = [reply(70)]
    (found,) = grid(inner).pull_messages(["c" * 64])
    assert found.metadata.reply_to_message_id == "c" * 64


def test_an_error_has_a_size_too() -> None:
    made = Message(Error(2, "no disk"), reply_to=message(1))
    set_message_id(made, "b" * 64)
    assert min(superlink_bytes(made)) > 100


def test_a_run_without_any_client_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    inner: Any = Inner()
    counted = grid(inner, timeout=60.0)
    for at, nodes in [(100, []), (150, []), (155, [7]), (500, []), (559, [])]:
        now[0], inner.nodes = float(at), nodes
        assert counted.get_node_ids() == nodes
    now[0] = 561.0
    with pytest.raises(EngineError, match=r"no client was connected for 60 s \(engine\.round"):
        counted.get_node_ids()
