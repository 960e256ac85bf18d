"""FedCompress's server step, on aggregates that are made up."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedcomp.config import compose_config
from fedcomp.errors import DataError, RoundError
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Tensors
from fedcomp.training import score
from strategies import fedcompress
from strategies.fedcompress import SelfCompression
from tests.common import QUICK, equal

WORDS = (
    *QUICK[1:],
    "method=fedcompress",
    "server_step.distillation.samples=48",
    "server_step.distillation.batch_size=16",
    "server_step.distillation.epochs=2",
)
HIDDEN = 8


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is made for the server out of the checkout."""
    monkeypatch.chdir(tmp_path)


def step_of(*words: str) -> tuple[SelfCompression, Setup]:
    setup = Setup(parse(compose_config([*WORDS, *words])))
    step = setup.settings.server_step.create(setup)
    assert isinstance(step, SelfCompression)
    return step, setup


def aggregate(setup: Setup, number: int) -> Tensors:
    rng = np.random.default_rng(number)
    initial = setup.initial
    return {n: np.asarray(v + 0.3 * rng.normal(size=v.shape), v.dtype) for n, v in initial.items()}


def embeddings(number: int, rank: int = HIDDEN, count: int = 30) -> Tensors:
    rng = np.random.default_rng(number)
    rows = rng.normal(size=(count, rank)) @ rng.normal(size=(rank, HIDDEN))
    return score.pack(rows, "gram", 10**6, 1)


def metrics(accuracy: float = 0.5) -> dict[str, float]:
    return {"validation": accuracy, "deflated_bytes": 1000.0, "train_loss": 1.0}


def rounds(step: SelfCompression, setup: Setup, numbers: range) -> list[tuple[Tensors, Any]]:
    return [
        step.after_aggregate(aggregate(setup, n), {"0": embeddings(n)}, metrics(), n)
        for n in numbers
    ]


def test_the_student_has_as_many_clusters_as_clients_are_told() -> None:
    step, setup = step_of("server_step.clusters.least=4", "server_step.clusters.patience=2")
    told = []
    for model, side in rounds(step, setup, range(1, 9)):
        told.append(int(side["clusters"]))
        assert len(np.unique(model["1.weight"])) <= told[-1]
        assert len(np.unique(model["3.weight"])) <= told[-1]
        assert len(np.unique(model["1.bias"])) > 4
    assert told == sorted(told)
    assert told[0] == 4 < told[-1] <= 7


def test_an_aggregate_is_not_changed_in_place_and_the_average_may_be_kept() -> None:
    for words, same in (((), False), (("server_step.distillation.epochs=0",), True)):
        step, setup = step_of(*words)
        given = aggregate(setup, 1)
        copy = {name: value.copy() for name, value in given.items()}
        model, _ = step.after_aggregate(given, {"0": embeddings(1)}, metrics(), 1)
        assert equal(given, copy)
        assert equal(model, copy) == same
        assert ("distillation_loss" in step.report()) != same


@pytest.mark.parametrize("words", [(), ("server_step.distillation.epochs=0",)])
def test_what_a_student_lacks_is_in_the_next_ones(words: tuple[str, ...]) -> None:
    """Conservation: students and what is left add up to all aggregates."""
    step, setup = step_of(*words)
    total = {n: np.zeros(v.shape) for n, v in setup.initial.items()}
    for number in range(1, 6):
        given = aggregate(setup, number)
        model, _ = step.after_aggregate(given, {"0": embeddings(number)}, metrics(), number)
        total = {n: value + given[n] - model[n] for n, value in total.items()}
    left, _ = step.save()
    assert set(left) == (set() if words else set(total))
    for name, value in total.items():
        assert np.allclose(left.get(name, 0), value, atol=1e-5)


def test_where_nothing_is_carried_each_student_is_that_of_one_average() -> None:
    step, setup = step_of("server_step.carry=false")
    (first, _), *_ = rounds(step, setup, range(1, 4))
    assert step.save()[0] == {}
    other, _ = step_of("server_step.carry=false")
    rounds(other, setup, range(2, 3))
    again, _ = other.after_aggregate(aggregate(setup, 1), {"0": embeddings(1)}, metrics(), 1)
    assert equal(first, again)


def test_clients_count_by_their_samples_and_useless_ones_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    step, setup = step_of("server_step.distillation.epochs=0")
    good = {"0": embeddings(1, rank=1, count=400), "1": embeddings(2, rank=3, count=4)}
    step.after_aggregate(aggregate(setup, 1), good, metrics(), 1)
    expected = step.report()["representation"]
    assert 1 < expected < 1.7, "of two directions and more if both counted alike"
    lies: list[Tensors] = [
        {},
        {"gram": np.full(36, np.nan, np.float16)},
        {"gram": np.ones(34, np.float16)},
    ]
    both = good | {str(n): lie for n, lie in enumerate(lies, 2)}
    with caplog.at_level(logging.WARNING, "strategies"):
        step.after_aggregate(aggregate(setup, 2), both, metrics(), 2)
    assert step.report()["representation"] == expected
    assert "round 2: 3 clients sent embeddings that are of no use" in caplog.text


def test_a_round_without_embeddings_ends_the_run_with_the_reason() -> None:
    step, setup = step_of()
    with pytest.raises(RoundError, match="round 3: no client sent usable embeddings"):
        step.after_aggregate(aggregate(setup, 1), {"0": {}}, metrics(), 3)


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_it_goes_on_from_a_saved_state(stop: int) -> None:
    words = ("server_step.clusters.patience=2", "server_step.clusters.least=4")
    step, setup = step_of(*words)
    rounds(step, setup, range(1, stop + 1))
    arrays, values = step.save()
    twin, other = step_of(*words)
    twin.load(arrays, json.loads(json.dumps(values)))
    numbers = range(stop + 1, stop + 5)
    for left, right in zip(rounds(step, setup, numbers), rounds(twin, other, numbers), strict=True):
        assert equal(left[0], right[0])
        assert equal(left[1], right[1])
    assert step.account() == twin.account()


def test_the_server_has_its_threads_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    step, setup = step_of()
    seen: list[int] = []

    def noted(*_given: Any, **_named: Any) -> float:
        seen.append(torch.get_num_threads())
        return 0.0

    monkeypatch.setattr(fedcompress, "distil", noted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        rounds(step, setup, range(1, 2))
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_missing_samples_of_the_server_are_noticed_before_the_run(tmp_path: Path) -> None:
    words = ("dataset.server_data=folder:nowhere", f"data_dir={tmp_path}")
    setup = Setup(parse(compose_config([*WORDS, *words])))
    with pytest.raises(DataError, match=r"server_data=folder:nowhere: there is no folder"):
        setup.check()
    without = "server_step.distillation.epochs=0"
    Setup(parse(compose_config([*WORDS, *words, without]))).check()
