from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy
from flwr.serverapp.strategy import FedAvgM

from fedcomp.config import group_choices
from fedcomp.errors import BitstreamError, RoundError
from fedcomp.link.ledger import Entry, Ledger
from fedcomp.methods import Answer
from fedcomp.report.observer import Observer, RoundResult
from fedcomp.tensors import Kind, Manifest, Tensors, TensorSpec
from fedcomp.wire.records import blob_of, blob_record, from_record, is_blob, to_record
from strategies.aggregate import join, strategy_specs
from strategies.exchange import Exchange
from tests.common import awkward_tensors, equal, read_csv, read_summary, run_inline


class Watch(Observer):
    """Keeps all results."""

    def __init__(self) -> None:
        self.results: list[RoundResult] = []
        self.model: Tensors = {}

    def on_round(self, result: RoundResult) -> None:
        self.results.append(result)

    def on_end(self, model: Tensors) -> None:
        self.model = model


@pytest.mark.parametrize("strategy", group_choices()["strategy"])
@pytest.mark.parametrize("method", ["fedavg", "half"])
def test_every_strategy_works_and_learns(strategy: str, method: str, tmp_path: Path) -> None:
    watch = Watch()
    run_inline(
        tmp_path,
        f"strategy={strategy}",
        f"method={method}",
        "clients=7",
        "rounds=6",
        "train.steps=15",
        "model.hidden=[32]",
        observers=[watch],
    )
    losses = [result.metrics["loss"] for result in watch.results]
    assert losses[-1] < 0.8 * losses[0]
    assert all(value.dtype == np.float32 for value in watch.model.values())
    assert [result.clients for result in watch.results] == [0] + 6 * [7]


def test_fedavgm_goes_on_from_what_a_server_step_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[Tensors] = []
    starts: list[Tensors] = []

    class Seen(FedAvgM):
        def configure_train(
            self, server_round: int, arrays: ArrayRecord, *given: Any
        ) -> Iterable[Message]:
            published.append(from_record(arrays))
            return super().configure_train(server_round, arrays, *given)

        def aggregate_train(self, *given: Any) -> Any:
            assert self.current_arrays is not None
            starts.append(from_record(self.current_arrays))
            return super().aggregate_train(*given)

    monkeypatch.setattr(strategy, "FedAvgM", Seen)
    pruned = ("method=feddip", "server_step.interval=1", "strategy=server_sgd", "rounds=4")
    run_inline(tmp_path, *pruned, "clients=2", "train.steps=2")
    assert all((weights == 0).any() for n, weights in published[-1].items() if weights.ndim > 1)
    assert len(starts) == 4
    for before, start in zip(published, starts, strict=True):
        assert equal(before, start)


def test_sampling_follows_the_seed_and_leaves_pythons_generator_alone(tmp_path: Path) -> None:
    def sampled(folder: str, seed: int) -> list[str]:
        run = run_inline(tmp_path / folder, "clients=10", "fraction=0.3", f"seed={seed}")
        rows = read_csv(run / "packets.csv")
        return [f"{r['round']}:{r['client']}" for r in rows if r["purpose"] == "train"]

    random.seed(5)
    first = sampled("a", 1)
    after = random.random()
    random.seed(6)
    assert sampled("b", 1) == first
    assert sampled("c", 2) != first
    assert len(first) == 2 * 2 * 3
    random.seed(5)
    assert random.random() == after


def test_a_client_that_fails_is_counted_and_the_round_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clients.local import LocalTraining

    fit = LocalTraining.fit

    def broken(self: LocalTraining, work: Any) -> Answer:
        if work.client == 2 and work.round == 1:
            raise ValueError("disk on fire")
        return fit(self, work)

    monkeypatch.setattr(LocalTraining, "fit", broken)
    run = run_inline(tmp_path, "engine.min_results=3", "method=half")
    rows = read_csv(run / "rounds.csv")
    assert [(row["clients"], row["failures"]) for row in rows] == [
        ("0", "0"),
        ("3", "1"),
        ("4", "0"),
    ]
    assert read_summary(run)["failures"] == 1
    kinds = {
        row["client"]: row["kind"]
        for row in read_csv(run / "packets.csv")
        if row["round"] == "2" and row["direction"] == "downlink"
    }
    assert kinds == dict.fromkeys("0123", "delta")  # whatever client 2 holds, it can use that


def test_too_few_results_end_the_run_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clients.local import LocalTraining

    def broken(self: LocalTraining, work: Any) -> Answer:
        if work.round == 2 and work.client:
            raise ValueError("out of memory")
        return Answer(dict(work.link.received), {"train_loss": 0.0})

    monkeypatch.setattr(LocalTraining, "fit", broken)
    expected = (
        r"round 2: 1 valid replies, engine\.min_results asks for 2; 3 clients failed, .*memory"
    )
    with pytest.raises(RoundError, match=expected):
        run_inline(tmp_path, "engine.min_results=2")
    assert read_summary(tmp_path)["rounds"] == 1
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_poison_is_refused_and_booked(
    poison: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clients.local import LocalTraining

    fit = LocalTraining.fit

    def poisoned(self: LocalTraining, work: Any) -> Answer:
        answer = fit(self, work)
        if work.client == 1:
            answer.tensors["1.bias"][0] = poison  # type: ignore[index]
        return answer

    monkeypatch.setattr(LocalTraining, "fit", poisoned)
    watch = Watch()
    run = run_inline(tmp_path, observers=[watch])
    assert [result.failures for result in watch.results] == [0, 1, 1]
    assert all(np.isfinite(value).all() for value in watch.model.values())
    refused = [row for row in read_csv(run / "packets.csv") if row["kind"] == "refused"]
    assert [row["client"] for row in refused] == ["1", "1"]
    assert all(int(row["packet_bytes"]) > 0 for row in refused)


def test_a_client_that_lost_its_state_gets_a_keyframe_in_the_same_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedcomp.link.stores import MemoryStateStore

    load = MemoryStateStore.load
    calls: list[str] = []

    def forgetful(self: MemoryStateStore, site: str) -> Any:
        calls.append(site)
        return None if site == "3" and calls.count("3") == 3 else load(self, site)

    monkeypatch.setattr(MemoryStateStore, "load", forgetful)
    run = run_inline(tmp_path, "method=half", "rounds=3")
    rows = [
        (row["direction"], row["kind"])
        for row in read_csv(run / "packets.csv")
        if row["client"] == "3" and row["round"] == "3"
    ]
    assert rows == [
        ("downlink", "delta"), ("uplink", "nack"), ("downlink", "keyframe"), ("uplink", "delta"),
    ]  # fmt: skip
    assert read_summary(run)["failures"] == 0


def test_records_carry_blobs_unchanged_and_tensors_exactly() -> None:
    record = blob_record(b"abc")
    assert is_blob(record)
    assert blob_of(record) == b"abc"
    with pytest.raises(TypeError):
        next(iter(record.values())).numpy()
    assert equal(from_record(to_record(awkward_tensors())), awkward_tensors())
    with pytest.raises(BitstreamError, match=r"1 arrays of the types \['numpy.ndarray'\] and no"):
        blob_of(ArrayRecord({"x": Array(np.zeros(2))}))


def test_buffers_go_round_the_strategy() -> None:
    manifest = Manifest(
        (
            TensorSpec("w", (2,), "float32", Kind.WEIGHT),
            TensorSpec("mean", (2,), "float32", Kind.BUFFER),
            TensorSpec("count", (), "int64", Kind.COUNTER),
        )
    )
    exchange = Exchange(Ledger(manifest), 1, "train")
    for site, number in (("0", 1), ("1", 4)):
        model = {
            "w": np.full(2, number, np.float32),
            "mean": np.full(2, number, np.float32),
            "count": np.array(number, np.int64),
        }
        exchange.received[site] = SimpleNamespace(tensor=model.__getitem__)  # type: ignore[assignment]
    assert [spec.name for spec in strategy_specs(manifest)] == ["w"]
    aggregate = {"w": np.full(2, 9.0)}  # float64, as FedAdam returns it
    joined = join(aggregate, exchange, {"0": 10.0, "1": 30.0}, model)
    assert [str(value.dtype) for value in joined.values()] == ["float32", "float32", "int64"]
    assert joined["w"].tolist() == [9, 9]
    assert joined["mean"].tolist() == [3.25, 3.25]
    assert joined["count"] == 4


def test_ledger_books_training_and_evaluation_apart() -> None:
    ledger = Ledger(Manifest((TensorSpec("w", (10,), "float32", Kind.WEIGHT),)))
    assert ledger.compression_ratio is None
    ledger.add(Entry(1, "0", "downlink", "train", "delta", "cast", 5, 41, 141, 0.0))
    ledger.add(Entry(1, "0", "uplink", "side", "delta", "cast", 0, 9, 0, 0.0))
    ledger.add(Entry(1, "0", "uplink", "evaluate", "message", "", 0, 7, 60, 0.0))
    ledger.trained(2)
    assert (ledger.downlink_bytes, ledger.uplink_bytes, ledger.evaluation_bytes) == (41, 9, 7)
    assert (ledger.total_bytes, ledger.message_bytes, ledger.reference_bytes) == (57, 201, 160)
    assert ledger.compression_ratio == 160 / 50
    assert len(ledger.take()) == 3
    assert ledger.take() == []


def test_the_mod_serves_apps_that_know_nothing_of_links(tmp_path: Path) -> None:
    """An app that reads and returns plain arrays works behind the mod."""
    from flwr.app import Context
    from flwr.clientapp import ClientApp

    import fedcomp.engines.inline as inline
    from clients.app import introduce, site_of
    from clients.mod import CompressionMod
    from fedcomp.config import compose_config
    from fedcomp.link.client import ClientLink
    from fedcomp.link.stores import MemoryStateStore
    from fedcomp.runtime import Hooks
    from fedcomp.settings import Job
    from fedcomp.setup import Setup
    from fedcomp.wire.private import assume_identity
    from strategies.app import serve
    from tests.common import QUICK

    job = Job(compose_config([*QUICK, "method=half"]), "x", str(tmp_path))
    setup, store = Setup(job.settings), MemoryStateStore()
    session = setup.session("x")
    mod = CompressionMod(lambda c: ClientLink(session, site_of(c), store, lambda: setup.initial))
    app = ClientApp(mods=[mod])
    app.query()(introduce)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = message.content["arrays"]
        moved = ArrayRecord(
            {name: Array(a.numpy() + np.float32(0.5)) for name, a in arrays.items()}
        )
        metrics = MetricRecord({"num-examples": 1, "loss": 0.0})
        return Message(RecordDict({"arrays": moved, "metrics": metrics}), reply_to=message)

    run_id = assume_identity()
    contexts = {
        i: Context(run_id, i, {"partition-id": i - 1}, RecordDict(), {}) for i in range(1, 5)
    }
    watch = Watch()
    serve(inline._grid(app, contexts), job, setup, Hooks([watch]))
    for name, value in watch.model.items():
        np.testing.assert_allclose(value, setup.initial[name] + 1.0, atol=2e-3)
