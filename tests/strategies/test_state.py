from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, MetricRecord
from flwr.serverapp.strategy import FedAvg, Strategy
from safetensors.numpy import load, save

from fedcomp.config import compose_config, group_choices
from fedcomp.errors import ConfigError, DataError
from fedcomp.settings import parse
from fedcomp.tensors import contiguous
from fedcomp.wire.records import to_record
from strategies.build import build_strategy
from strategies.state import StrategyState

STRATEGIES = group_choices()["strategy"]


def made(name: str) -> Strategy:
    settings = parse(compose_config([f"strategy={name}", "clients=12"]))
    return build_strategy(settings)


def through_files(state: StrategyState, other: Strategy) -> None:
    """Give one strategy what another has saved."""
    arrays, values = state.save()
    stored = load(save({name: contiguous(value) for name, value in arrays.items()}))
    StrategyState(other).load(stored, json.loads(json.dumps(values)))


def plain(value: Any) -> Any:
    """Return a value in a form that compares by bytes and types."""
    if isinstance(value, Strategy):
        return {name: plain(inner) for name, inner in vars(value).items()}
    if isinstance(value, ArrayRecord):
        return {name: plain(array.numpy()) for name, array in value.items()}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [plain(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return str(value.dtype), value.shape, value.tobytes()
    return value if not callable(value) else getattr(value, "__qualname__", "function")


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_comes_back(name: str) -> None:
    strategy, other = made(name), made(name)
    state = StrategyState(strategy)
    assert state.save()[1]["changed"] == {}
    rng = np.random.default_rng(1)
    for key, value in list(vars(strategy).items()):
        if value is None and key not in ("accountant",):  # what the first round would set
            setattr(strategy, key, {"w": rng.normal(size=(2, 3)), "b": np.float32(2)})
        elif isinstance(value, float):
            setattr(strategy, key, value + 1)
    through_files(state, other)
    assert plain(other) == plain(strategy)
    assert plain(made(name)) != plain(strategy)


def test_what_no_round_has_changed_is_as_the_settings_say_now() -> None:
    strategy, other = made("fedadam"), made("fedadam")
    state = StrategyState(strategy)
    strategy.m_t = {"w": np.ones(2)}  # type: ignore[attr-defined]
    other.eta = 7.0  # type: ignore[attr-defined]
    through_files(state, other)
    assert other.eta == 7.0  # type: ignore[attr-defined]
    assert plain(other.m_t) == plain(strategy.m_t)  # type: ignore[attr-defined]


def test_arrays_that_change_in_place_have_changed() -> None:
    strategy, other = Custom(np.zeros(3)), Custom(np.zeros(3))
    state = StrategyState(strategy)
    strategy.more[1] = 5  # type: ignore[index]
    through_files(state, other)
    assert plain(other.more) == plain(strategy.more)


@pytest.mark.parametrize(
    ("made_as", "now"), [(1, True), (0.0, -0.0), (0, 0.0), ({}, to_record({}))]
)
def test_another_type_is_a_change(made_as: object, now: object) -> None:
    strategy, other = Custom(made_as), Custom(made_as)
    state = StrategyState(strategy)
    strategy.more = now
    through_files(state, other)
    assert plain(other.more) == plain(now)
    assert type(other.more) is type(now)
    assert repr(other.more) == repr(now)


def test_an_older_state_takes_back_what_a_newer_one_set() -> None:
    strategy, other = Custom(1), Custom(1)
    state = StrategyState(strategy)
    arrays, values = state.save()
    restored = StrategyState(other)
    other.more, other.late = {"w": np.ones(2)}, 3  # type: ignore[attr-defined]
    restored.load(arrays, values)
    assert plain(other) == plain(strategy)


def test_one_strategy_does_not_go_on_from_another() -> None:
    arrays, values = StrategyState(made("fedadam")).save()
    with pytest.raises(DataError, match=r"began with the strategy .*FedAdam, now it is .*FedAvgM"):
        StrategyState(made("fedavgm")).load(arrays, values)


def test_strategies_that_know_each_other_are_saved_once() -> None:
    strategy = Custom(Custom(1))
    strategy.more.more = strategy  # type: ignore[attr-defined]
    strategy.more.count = 2  # type: ignore[attr-defined]
    assert StrategyState(strategy).save()[1]["changed"] == {}


def test_a_wrapped_strategy_is_saved_as_well() -> None:
    strategy, other = Custom(Custom(1)), Custom(Custom(1))
    state = StrategyState(strategy)
    strategy.more.more = {"b": np.ones(2)}  # type: ignore[attr-defined]
    through_files(state, other)
    assert plain(other.more) == plain(strategy.more)


def test_types_are_kept_that_aggregation_depends_on() -> None:
    strategy, other = made("fedavgm"), made("fedavgm")
    state = StrategyState(strategy)
    strategy.momentum_vector = [np.ones(2), np.zeros((), np.float32)]  # type: ignore[attr-defined]
    strategy.current_arrays = to_record({"w": np.arange(3, dtype=np.float16)})  # type: ignore[attr-defined]
    through_files(state, other)
    assert plain(other) == plain(strategy)
    assert isinstance(other.current_arrays, ArrayRecord)  # type: ignore[attr-defined]


class Custom(FedAvg):
    """One as users write them."""

    def __init__(self, more: object) -> None:
        super().__init__(
            train_metrics_aggr_fn=lambda *_: MetricRecord(),
            evaluate_metrics_aggr_fn=partial(lambda _, *__: MetricRecord(), 1),
        )
        self.more = more


def test_functions_stay_what_the_settings_made_them() -> None:
    other = Custom(2)
    before = other.train_metrics_aggr_fn, other.evaluate_metrics_aggr_fn
    strategy = Custom(None)
    state = StrategyState(strategy)
    strategy.more = (1, b"x", {3: [None]})
    through_files(state, other)
    assert other.more == (1, b"x", {3: [None]})
    assert (other.train_metrics_aggr_fn, other.evaluate_metrics_aggr_fn) == before


class Callable:
    """Is called like a function, and remembers."""

    def __call__(self) -> None: ...


@pytest.mark.parametrize("more", [{1}, Callable(), {"deep": [object()]}])
def test_an_attribute_that_cannot_be_saved_is_named(more: object) -> None:
    with pytest.raises(ConfigError, match=r"strategy Custom: more.* is of type .*"):
        StrategyState(Custom(more))
    strategy = Custom(1)
    state = StrategyState(strategy)
    strategy.more = more
    with pytest.raises(ConfigError, match=r"strategy Custom: more.* is of type .*"):
        state.save()
