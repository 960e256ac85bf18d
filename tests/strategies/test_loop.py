"""What strategies may do to messages, replies and aggregates, and what they are told if not."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

import fedcomp.link.server as server
import strategies.exchange as exchange_module
import strategies.requests as requests
from fedcomp.config import compose_config
from fedcomp.errors import LinkError, RoundError
from fedcomp.link.ledger import Ledger
from fedcomp.link.rate import Rate
from fedcomp.link.received import Received
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Kind, Manifest, TensorSpec
from fedcomp.wire import keys
from fedcomp.wire.private import assume_identity, set_message_id
from strategies.exchange import Exchange
from strategies.replies import refuse_odd_metrics
from tests.common import QUICK, equal, read_csv, run_inline
from tests.strategies.test_strategies import Watch

EVALUATED = "strategy.fraction_evaluate=1.0"


def given(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let FedAvg send the arrays that `change` makes of those it is given."""
    configure = FedAvg.configure_train

    def changed(self: FedAvg, number: int, arrays: ArrayRecord, *others: Any) -> Any:
        return configure(self, number, change(arrays), *others)

    monkeypatch.setattr(FedAvg, "configure_train", changed)


def _zeros(arrays: ArrayRecord) -> ArrayRecord:
    return ArrayRecord({n: Array(np.zeros_like(a.numpy())) for n, a in arrays.items()})


def _transposed(arrays: ArrayRecord) -> ArrayRecord:
    return ArrayRecord({n: Array(a.numpy().T.copy()) for n, a in arrays.items()})


def _less(arrays: ArrayRecord) -> ArrayRecord:
    return ArrayRecord(dict(list(arrays.items())[1:]))


def _more(arrays: ArrayRecord) -> ArrayRecord:
    return ArrayRecord({**arrays, "mask": Array(np.zeros(3))})


def _copies(arrays: ArrayRecord) -> ArrayRecord:
    return ArrayRecord({n: Array(a.numpy().copy()) for n, a in arrays.items()})


@pytest.mark.parametrize("change", [_zeros, _transposed, _less, _more])
def test_arrays_of_a_strategys_own_are_refused(
    change: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, change)
    expected = r"the strategy's train message to client 1 .* '(1|mask).*broadcasts one model"
    with pytest.raises(LinkError, match=expected):
        run_inline(tmp_path)


def test_each_message_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure = FedAvg.configure_train

    def personal(self: FedAvg, *arguments: Any) -> Any:
        messages = list(configure(self, *arguments))
        content = RecordDict(dict(messages[-1].content.items()))
        content["arrays"] = _zeros(content.array_records["arrays"])
        messages[-1].content = content
        return messages

    monkeypatch.setattr(FedAvg, "configure_train", personal)
    with pytest.raises(LinkError, match="train message to client 3 carries arrays of its own"):
        run_inline(tmp_path)


def test_equal_values_in_other_arrays_are_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    check = requests._check_model
    monkeypatch.setattr(requests, "_check_model", lambda *a: looked.append(a[2]) or check(*a))
    plain, copied = Watch(), Watch()
    run_inline(tmp_path / "a", "method=half", observers=[plain])
    given(monkeypatch, _copies)
    run_inline(tmp_path / "b", "method=half", observers=[copied])
    assert equal(plain.model, copied.model)
    assert len(looked) == 2 + 2  # once a round, not once a message


def test_the_model_itself_is_not_read_to_be_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strategies.requests.np.array_equal", lambda *_: pytest.fail("compared"))
    checks: list[bool] = []
    same = requests._is_same
    monkeypatch.setattr(requests, "_is_same", lambda *a: checks.append(same(*a)) or checks[-1])
    monkeypatch.setattr(server, "_same", lambda *_: False)
    run_inline(tmp_path, "method=half")
    assert checks
    assert all(checks)


def test_a_strategy_may_keep_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Message] = []
    seen: list[int] = []
    aggregate = FedAvg.aggregate_train

    def keeping(self: FedAvg, number: int, replies: Any) -> Any:
        seen.append(sum(len(m.content.array_records["arrays"]) for m in kept))
        assert all(np.isfinite(a.numpy()).all() for m in kept for a in m.content["arrays"].values())
        kept.extend(replies)
        return aggregate(self, number, list(kept))

    monkeypatch.setattr(FedAvg, "aggregate_train", keeping)
    watch = Watch()
    run_inline(tmp_path, "method=half", observers=[watch])
    assert seen == [0, 4 * 4]
    assert [result.clients for result in watch.results] == [0, 4, 4]


def test_replies_and_messages_are_gone_when_the_new_version_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory at that moment is the target of `scripts/bench link`; its net is a large one."""
    alive: WeakSet[Received] = WeakSet()
    most: list[int] = []
    check, quantised = Received.check, server.quantised

    def noted(self: Received, *arguments: Any) -> None:
        alive.add(self)
        most.append(len(alive))
        check(self, *arguments)

    def checked(*arguments: Any) -> Any:
        assert not alive
        return quantised(*arguments)

    monkeypatch.setattr(Received, "check", noted)
    monkeypatch.setattr(server, "quantised", checked)
    monkeypatch.setattr(exchange_module, "LARGE", 0)
    run_inline(tmp_path, "method=half")
    assert max(most) == 4


def test_an_exchange_lets_go_of_what_came_back() -> None:
    manifest = Manifest((TensorSpec("w", (10,), "float32", Kind.WEIGHT),))
    exchange = Exchange(Ledger(manifest), 1, "train")
    for site, loss, payload_bytes, moved in (("0", 2.0, 10, 4), ("1", 4.0, 20, 2)):
        exchange.replies[site] = _reply({"loss": loss, keys.EXAMPLES: 7})
        exchange.received[site] = SimpleNamespace(payload_bytes=payload_bytes, moved=moved)  # type: ignore[assignment]
        exchange.side[site] = {}
    side = exchange.side
    exchange.release(manifest)
    assert exchange.used == ("0", "1")
    assert (exchange.replies, exchange.received, exchange.side) == ({}, {}, {})
    assert side == {"0": {}, "1": {}}  # a server step may keep it
    assert exchange.reports == {"loss": 3.0}
    assert exchange.rate == Rate(bits_per_weight=12.0, sparsity=0.7)


def test_rates_are_those_of_the_packets(tmp_path: Path) -> None:
    words = ("method=stc", "rounds=3", "train.steps=3")
    run = run_inline(tmp_path, *words)
    setup = Setup(parse(compose_config([*QUICK, *words])))
    sizes = [spec.size for spec in setup.manifest.specs if spec.kind is Kind.WEIGHT]
    kept = sum(int(np.ceil(0.04 * size)) for size in sizes) / sum(sizes)
    rows = read_csv(run / "rounds.csv")
    packets = [row for row in read_csv(run / "packets.csv") if row["purpose"] == "train"]
    assert {rows[0][name] for name in rows[0] if "sparsity" in name or "_bits_" in name} == {""}
    for number, row in enumerate(rows[1:], 1):
        payloads = {
            direction: [
                int(p["payload_bytes"])
                for p in packets
                if (int(p["round"]), p["direction"]) == (number + later, direction)
            ]
            for direction, later in (("uplink", 0), ("downlink", 1))
        }
        for direction, found in payloads.items():
            more = 0.03 if direction == "downlink" else 1e-9  # of means of ternary values many tie
            assert 1 - kept - more < float(row[f"{direction}_sparsity"]) < 1 - kept + 1e-9
            if found:  # the last version is sent to nobody
                bits = 8 * np.mean(found) / setup.manifest.elements
                assert float(row[f"{direction}_bits_per_weight"]) == pytest.approx(bits)


def _reply(metrics: dict[str, float]) -> Message:
    assume_identity()
    request = Message(RecordDict(), 5, "train")
    set_message_id(request, "1")
    return Message(RecordDict({keys.METRICS: MetricRecord(metrics)}), reply_to=request)  # type: ignore[arg-type]


def _manifest() -> Manifest:
    return Manifest((TensorSpec("w", (1,), "float32", Kind.WEIGHT),))


def test_nothing_of_a_reply_with_odd_metrics_is_kept() -> None:
    exchange = Exchange(Ledger(_manifest()), 1, "train")
    for site, names in (("0", "loss"), ("1", "other"), ("2", "loss")):
        exchange.replies[site] = _reply({names: 1.0})
        exchange.received[site] = object()  # type: ignore[assignment]
        exchange.side[site] = {"gram": np.ones(2)}
    refuse_odd_metrics(exchange)
    kept = [set(found) for found in (exchange.replies, exchange.received, exchange.side)]
    assert kept == 3 * [{"0", "2"}]
    assert list(exchange.failures) == ["1"]


@pytest.mark.parametrize(
    "method", ["configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate"]
)
def test_a_strategy_that_fails_is_named(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nobody")

    monkeypatch.setattr(FedAvg, method, broken)
    expected = rf"round 1: strategy FedAvg failed: ZeroDivisionError: by nobody \(in {method}\)"
    with pytest.raises(RoundError, match=expected):
        run_inline(tmp_path, EVALUATED)


def test_messages_that_are_made_one_by_one_are_guarded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise KeyError("node")
        yield

    monkeypatch.setattr(FedAvg, "configure_train", broken)
    with pytest.raises(RoundError, match="FedAvg failed: KeyError"):
        run_inline(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_transposed, r"shape \(64, 8\) for tensor '1.weight', expected is shape \(8, 64\)"),
        (_less, r"nothing for tensor '1.weight', expected is shape"),
        (_more, r"shape \(3,\) for tensor 'mask', expected is nothing"),
    ],
)
def test_an_aggregate_of_other_tensors_is_refused(
    change: Any, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregate = FedAvg.aggregate_train

    def changed(self: FedAvg, *arguments: Any) -> Any:
        arrays, found = aggregate(self, *arguments)
        assert arrays is not None
        return change(arrays), found

    monkeypatch.setattr(FedAvg, "aggregate_train", changed)
    with pytest.raises(RoundError, match=f"round 1: strategy FedAvg returned {expected}"):
        run_inline(tmp_path)


def test_a_run_that_is_stopped_inside_a_strategy_is_no_error_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from fedcomp.errors import RunInterrupted

    def stopped(*_: object) -> None:
        raise RunInterrupted

    monkeypatch.setattr(FedAvg, "configure_evaluate", stopped)
    with caplog.at_level(logging.WARNING), pytest.raises(RunInterrupted):
        run_inline(tmp_path, EVALUATED)
