"""One of four clients is hostile; the round must not notice, and its bytes must be booked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedcomp.config import compose_config
from fedcomp.engines.inline import InlineEngine
from fedcomp.errors import RoundError
from fedcomp.link.ledger import Ledger
from fedcomp.report.observer import Observer
from fedcomp.runtime import Hooks
from fedcomp.settings import Job
from fedcomp.setup import Setup
from fedcomp.tensors import Kind, Manifest, Tensors, TensorSpec
from fedcomp.wire import keys
from fedcomp.wire.records import blob_record
from strategies.exchange import Exchange, Sizes
from tests.common import QUICK, equal, read_csv, read_summary

HOSTILE = 1


def metrics(**values: Any) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        record = content[keys.METRICS]
        content[keys.METRICS] = MetricRecord({**dict(record), **values})  # type: ignore[arg-type]

    return change


def examples(value: Any) -> Callable[[RecordDict], None]:
    return metrics(**{keys.EXAMPLES: value})


def fields(**values: Any) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        content[keys.FIELDS] = ConfigRecord({**dict(content[keys.FIELDS]), **values})  # type: ignore[arg-type]

    return change


def drop(name: str) -> Callable[[RecordDict], None]:
    return lambda content: content.__delitem__(name)


def add(name: str, record: Any) -> Callable[[RecordDict], None]:
    return lambda content: content.__setitem__(name, record)


def garble(content: RecordDict) -> None:
    data = bytearray(content[keys.ARRAYS][keys.BLOB].data)  # type: ignore[index,union-attr]
    data[len(data) // 2] ^= 1
    content[keys.ARRAYS] = blob_record(bytes(data))


def rename(content: RecordDict) -> None:
    content["other"] = content[keys.ARRAYS]
    del content[keys.ARRAYS]


LIES = {
    "no examples": lambda c: add(keys.METRICS, MetricRecord({"train_loss": 1.0}))(c),
    "examples nan": examples(float("nan")),
    "examples inf": examples(float("inf")),
    "examples negative": examples(-1000),
    "examples zero": examples(0),
    "examples huge": examples(2**40),
    "examples list": examples([1, 2]),
    "metric nan": metrics(train_loss=float("nan")),
    "extra metric": metrics(extra=1.0),
    "no metrics": drop(keys.METRICS),
    "two metrics": add("more", MetricRecord({"x": 1.0})),
    "metrics as config": lambda c: (drop(keys.METRICS)(c), add(keys.METRICS, ConfigRecord())(c)),
    "no arrays": drop(keys.ARRAYS),
    "two arrays": lambda c: add("more", c[keys.ARRAYS])(c),
    "renamed arrays": rename,
    "plain arrays": add(keys.ARRAYS, ArrayRecord({"w": Array(np.zeros(3))})),
    "garbled packet": garble,
    "no fields": drop(keys.FIELDS),
    "version is a number": fields(v=2**62),
    "version too long": fields(v=bytes(1000)),
    "time nan": fields(train=float("nan")),
    "time negative": fields(train=-1e300),
    "time list": fields(train=[1.0, 2.0]),
    "time text": fields(enc="soon"),
}


class Last(Observer):
    """Keeps the final model."""

    def __init__(self) -> None:
        self.model: Tensors = {}

    def on_end(self, model: Tensors) -> None:
        self.model = model


def run(folder: Path, change: Callable[[Message], Message | None], *words: str) -> Tensors:
    """Run two rounds in which the hostile client's training replies are changed."""
    import clients.app as app_module

    made = app_module.make_app

    def hostile_app(*arguments: Any) -> Any:
        app = made(*arguments)

        def call(message: Message, context: Any) -> Message:
            reply = app(message, context)
            training = message.metadata.message_type == "train"
            if training and context.node_config["partition-id"] == HOSTILE:
                return change(reply) or reply
            return reply

        return call

    last = Last()
    job = Job(compose_config([*QUICK, *words]), "test", str(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app_module, "make_app", hostile_app)
        InlineEngine().run(job, Setup(job.settings), Hooks([last]))
    return last.model


def silent(reply: Message) -> Message:
    raise RuntimeError("never answers")


@pytest.mark.filterwarnings("ignore:Key .* was overwritten")
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_as_good_as_silence(lie: str, tmp_path: Path) -> None:
    def tell(reply: Message) -> None:
        content = RecordDict(dict(reply.content.items()))
        LIES[lie](content)
        reply.content = content

    model = run(tmp_path / "lie", tell, "method=half")
    assert equal(model, run(tmp_path / "silence", silent, "method=half"))
    assert read_summary(tmp_path / "lie")["failures"] == 2
    rows = read_csv(tmp_path / "lie" / "packets.csv")
    mine = [r for r in rows if r["client"] == str(HOSTILE) and r["direction"] == "uplink"]
    booked = [row for row in mine if row["purpose"] == "train"]
    assert len(booked) == 2
    assert all(int(row["message_bytes"]) > 0 for row in booked)


def test_an_aggregate_that_overflows_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.serverapp.strategy import FedAvg

    average = FedAvg.aggregate_train

    def overflow(self: FedAvg, number: int, replies: Any) -> Any:
        arrays, found = average(self, number, replies)
        assert arrays is not None
        arrays["1.bias"] = Array(np.full(8, np.inf, np.float32))
        return arrays, found

    monkeypatch.setattr(FedAvg, "aggregate_train", overflow)
    with pytest.raises(RoundError, match=r"round 1: the aggregate is not finite, first in 1\.bias"):
        run(tmp_path, lambda reply: None)
    assert read_summary(tmp_path)["status"] == "stopped"


def test_a_strategy_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.serverapp.strategy import FedAvg

    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nobody")

    monkeypatch.setattr(FedAvg, "aggregate_train", broken)
    with pytest.raises(RoundError, match="strategy FedAvg failed: ZeroDivisionError: by nobody"):
        run(tmp_path, lambda reply: None)


def test_evaluation_failures_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import clients.app as app_module

    def broken(*_: object, **__: object) -> dict[str, float]:
        raise RuntimeError("no labels")

    monkeypatch.setattr(app_module, "evaluate_module", broken)
    run(tmp_path, lambda reply: None, "strategy.fraction_evaluate=1.0")
    assert read_summary(tmp_path)["failures"] == 8


@pytest.mark.parametrize(("purpose", "side"), [("train", "side"), ("evaluate", "evaluate")])
def test_side_information_is_a_row_of_its_own(purpose: Any, side: str) -> None:
    ledger = Ledger(Manifest((TensorSpec("w", (10,), "float32", Kind.WEIGHT),)))
    exchange = Exchange(ledger, 3, purpose)
    exchange.book("1", "uplink", "delta", "cast", Sizes(100, 20, 60, 7), 0.5)
    first, second = ledger.take()
    assert (first.purpose, first.packet_bytes, first.message_bytes) == (purpose, 53, 100)
    assert (second.purpose, second.packet_bytes, second.message_bytes) == (side, 7, 0)
    assert second.seconds == 0
