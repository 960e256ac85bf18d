from __future__ import annotations

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedcomp.wire import keys
from fedcomp.wire.private import assume_identity, message_bytes
from fedcomp.wire.records import blob_record
from fedcomp.wire.sizes import message_size


@pytest.fixture(autouse=True)
def _identity() -> None:
    assume_identity()


def _edges() -> list[int]:
    """Return lengths around which one of the nested length fields takes one more byte."""
    around = (2**7, 2**14, 2**21)
    return [*(max(edge + step, 0) for edge in around for step in range(-130, 3)), 3_000_000]


def test_sizes_without_writing_packets_out_are_exact() -> None:
    for length in _edges():
        content = RecordDict({keys.ARRAYS: blob_record(bytes(length))})
        message = Message(content, 2**40, "train")
        assert message_size(message) == message_bytes(message)
        assert message.content is content


@pytest.mark.parametrize("shape", [(), (0,), (-1,), (2**31 - 1, 1, 300)])
@pytest.mark.parametrize("dtype", ["", "float32", "é" * 200])
def test_claims_of_a_reply_count_as_they_are(dtype: str, shape: tuple[int, ...]) -> None:
    claimed = Array(dtype=dtype, shape=shape, stype=keys.STYPE, data=b"x" * 100)
    records = {
        "": ArrayRecord({keys.BLOB: claimed}),
        "é" * 100: blob_record(b"y" * 20_000),
        "plain": ArrayRecord({keys.BLOB: Array("f", (1,), "other", b"1234")}),
        keys.METRICS: MetricRecord({"loss": 1.0}),
        keys.FIELDS: ConfigRecord({keys.VERSION: b"v" * 8}),
    }
    for node in (1, 2**40, 2**62):
        message = Message(RecordDict(dict(records)), node, "train")
        assert message_size(message) == message_bytes(message)


def test_messages_without_packets_and_errors_are_measured_in_full() -> None:
    asked = Message(RecordDict(), 1, "query")
    assert message_size(asked) == message_bytes(asked)
    failed = Message(Error(0, "disk on fire"), reply_to=asked)
    assert message_size(failed) == message_bytes(failed)


def test_packets_are_not_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import flwr.common.serde as serde

    written: list[int] = []
    write = serde.array_to_proto
    monkeypatch.setattr(
        serde, "array_to_proto", lambda array: written.append(len(array.data)) or write(array)
    )
    message_size(Message(RecordDict({"a": blob_record(bytes(10**6))}), 1, "train"))
    assert written == []
