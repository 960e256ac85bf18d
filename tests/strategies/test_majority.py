"""The majority vote beside votes that are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from safetensors.numpy import load_file

from fedcomp.codecs.signsgd import SignSgd
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError
from fedcomp.link.session import quantised, restore
from fedcomp.settings import build, parse
from fedcomp.setup import Setup
from fedcomp.tensors import Array, Tensors
from fedcomp.wire.records import to_record
from strategies.majority import Majority, MajorityVote, moved
from tests.common import QUICK, context_for, equal, read_summary, run_inline

RNG = np.random.default_rng(12)
STEP = 0.01
QUICK_VOTE = ("method=signsgd", *QUICK[1:])


def mean(models: list[Array], shares: list[float]) -> Array:
    """Return a weighted mean, added up in the models' type as strategies do."""
    total = np.zeros_like(models[0])
    for model, share in zip(models, shares, strict=True):
        total += model * model.dtype.type(share)
    return total


@pytest.mark.parametrize("clients", [2, 3, 4, 10, 25, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_votes_are_counted(clients: int, dtype: type[np.floating[Any]]) -> None:
    """Brute force; ties are ties although a mean of floats is not exact."""
    old = (RNG.normal(size=2000) * 10.0 ** RNG.integers(-8, 1, 2000)).astype(dtype)
    old[:50] = 0
    votes = RNG.integers(-1, 2, size=(clients, 2000))
    models = [np.asarray(old + vote * dtype(STEP), dtype) for vote in votes]
    counted = np.sign(votes.sum(axis=0))
    assert {-1, 0, 1} == set(counted)
    new = moved(old, mean(models, [1 / clients] * clients), STEP, clients)
    assert new.dtype == old.dtype
    assert np.array_equal(new, (old + counted * dtype(np.float32(STEP))).astype(dtype))


def test_two_of_three_have_it_and_many_samples_count_more() -> None:
    old = np.array([[0.5, -0.5, 0.0]], np.float32)
    up, down = old + np.float32(STEP), old - np.float32(STEP)
    assert np.array_equal(moved(old, mean([up, up, down], [1 / 3] * 3), STEP, 3), up)
    assert np.array_equal(moved(old, mean([down, up, down], [1 / 3] * 3), STEP, 3), down)
    assert np.array_equal(moved(old, mean([up, up, down], [0.2, 0.2, 0.6]), STEP, 3), down)
    assert np.array_equal(moved(old, mean([up, down], [0.5, 0.5]), STEP, 2), old)


def test_the_step_is_the_servers() -> None:
    old = np.zeros((1, 2), np.float32)
    for size in (1e-6, 100.0):
        assert moved(old, old + np.float32(size), 2e-6, 2).tolist() == [[np.float32(2e-6)] * 2]


@pytest.mark.parametrize("clients", [2, 7, 100, 300])
def test_flowers_mean_of_models_makes_no_votes(clients: int) -> None:
    old = (RNG.normal(size=3000) * 10.0 ** RNG.integers(-3, 1, 3000)).astype(np.float32)
    votes = RNG.integers(-1, 2, size=(clients, 3000))
    votes[:, :1000] = 0
    votes[: clients // 2, 1000:2000], votes[clients // 2 :, 1000:2000] = 1, -1
    records = [
        RecordDict(
            {
                "arrays": to_record({"w": old + vote.astype(np.float32) * np.float32(STEP)}),
                "metrics": MetricRecord({"num-examples": 37}),
            }
        )
        for vote in votes
    ]
    aggregate = aggregate_arrayrecords(records, "num-examples")["w"].numpy()
    counted = votes.sum(axis=0)
    new = moved(old, aggregate, STEP, clients)
    expected = old + np.sign(counted).astype(np.float32) * np.float32(STEP)
    clear = (counted == 0) | (np.abs(counted) > clients / 100)
    assert np.array_equal(new[clear], expected[clear])
    assert ((new == expected) | (new == old)).all()


def test_the_downlink_carries_the_new_model_exactly() -> None:
    codec = SignSgd(step=STEP)
    for dtype in (np.float16, np.float32, np.float64):
        old: Tensors = {"w": RNG.normal(size=(30, 40)).astype(dtype)}
        aggregate = old["w"] + RNG.integers(-1, 2, size=(30, 40)).astype(dtype)
        new = {"w": moved(old["w"], aggregate, STEP, 2)}
        assert not np.array_equal(new["w"], old["w"])
        symbols = quantised(codec, new, old, context_for(old))
        public = restore(codec, symbols, old, context_for(old))
        assert equal(public, new)


def test_weights_move_from_round_to_round_and_all_else_is_averaged() -> None:
    start = {"w": np.zeros((1, 2), np.float32)}
    step = MajorityVote(start, 0.5, 2)
    ways = [[[9.0, -9.0]], [[0.25, -0.75]], [[0.0, 0.0]]]
    expected = [[[0.5, -0.5]], [[0.0, -1.0]], [[0.0, -0.5]]]
    for number, (way, to) in enumerate(zip(ways, expected, strict=True)):
        aggregate = {"w": np.array(way, np.float32), "b": np.array([0.125 * number])}
        model, side = step.after_aggregate(aggregate, {}, {}, number)
        assert model["w"].tolist() == to
        assert model["b"].tolist() == [0.125 * number]
        assert (list(model), side) == (["w", "b"], {})
    assert start["w"].tolist() == [[0.0, 0.0]]


def test_a_vote_without_a_result_is_seen() -> None:
    old = np.zeros((1, 2), np.float32)
    assert np.isnan(moved(old, np.array([[np.nan, 1]], np.float32), STEP, 2)).tolist() == [
        [True, False]
    ]


def test_the_first_vote_starts_from_version_0() -> None:
    setup = Setup(parse(compose_config([*QUICK_VOTE])))
    initial = setup.take_initial()
    step = setup.settings.server_step.create(setup)
    model, _ = step.after_aggregate({n: v + 1 for n, v in initial.items()}, {}, {}, 1)
    weights = {s.name for s in setup.manifest.specs if s.kind == "weight"}
    assert 0 < len(weights) < len(initial)
    for name, value in model.items():
        by = np.float32(STEP) if name in weights else 1
        assert np.array_equal(value, initial[name] + by), name


def test_a_step_is_set_in_one_place() -> None:
    for words, up, down in (
        (["server_step.step=0.25"], 0.25, 0.25),
        (["server_step.step=0.25", "uplink.step=0.5"], 0.5, 0.25),
        (["server_step=none", "codec@downlink=stc", "uplink.step=0.5"], 0.5, None),
    ):
        config = compose_config([*QUICK_VOTE, *words])
        assert (config["uplink"]["step"], config["downlink"].get("step")) == (up, down)


@pytest.mark.parametrize("strategy", ["fedavg", "fedmedian", "fedtrimmedavg"])
def test_every_weight_moves_by_whole_steps_under_any_strategy(
    strategy: str, tmp_path: Path
) -> None:
    words = (f"strategy={strategy}", "link.verify=true", "rounds=3", "link.feedback=false")
    words = (*words, "server_step.step=0.125")
    run = run_inline(tmp_path, *words, quick=QUICK_VOTE)
    final = load_file(run / "model.safetensors")
    setup = Setup(parse(compose_config([*QUICK_VOTE])))
    found: set[int] = set()
    for spec in setup.manifest.specs:
        steps = (final[spec.name] - setup.initial[spec.name]) / 0.125
        whole = np.abs(steps - np.round(steps)).max() < 1e-5
        assert whole == (spec.kind == "weight")
        found |= set(np.round(steps).astype(int).reshape(-1).tolist()) if whole else set()
    assert {-3, -2, -1, 0, 1} <= found <= set(range(-3, 4))
    assert read_summary(run)["method"] == "signsgd"


@pytest.mark.parametrize("value", [0, -1, 1e40, "much"])
def test_settings_are_checked(value: object) -> None:
    with pytest.raises(ConfigError, match="step"):
        build(Majority, {"step": value}, "server_step")
