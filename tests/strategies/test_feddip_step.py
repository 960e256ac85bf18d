"""Reconfiguration of masks, on aggregates that are made up."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedcomp.config import compose_config
from fedcomp.errors import ConfigError, RoundError
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Array, Kind, Tensors
from fedcomp.training.pruning import cubic_sparsity, magnitude_masks
from fedcomp.wire.keys import SCORES
from strategies.masking import Masking, cost
from tests.common import QUICK, equal

WORDS = (*QUICK[1:], "rounds=40")
FEDDIP = ("method=feddip", "server_step.interval=3")


def setup_of(*words: str) -> Setup:
    given = words if words and words[0].startswith("method=") else (*FEDDIP, *words)
    return Setup(parse(compose_config([*WORDS, *given])))


def step_of(*words: str) -> tuple[Masking, Setup]:
    setup = setup_of(*words)
    step = setup.settings.server_step.create(setup)
    assert isinstance(step, Masking)
    return step, setup


def drift(model: Tensors, number: int) -> Tensors:
    """Return an aggregate that clients might have made of a model: every value has moved."""
    rng = np.random.default_rng(number)
    return {n: np.asarray(v + 0.2 * rng.normal(size=v.shape), v.dtype) for n, v in model.items()}


def support(model: Tensors, names: list[str]) -> np.ndarray:
    return np.concatenate([(model[n] != 0).reshape(-1) for n in names])


@pytest.mark.parametrize("mode", ["mask_then_prune", "prune_dense_average"])
def test_feddip_prunes_to_its_schedule_and_nests_or_grows_back(mode: str) -> None:
    step, setup = step_of(f"server_step.reconfigure={mode}")
    names = list(step._shapes)
    assert names == ["1.weight", "3.weight"] == [n for n in setup.initial if n.endswith("weight")]
    model, before, grown = setup.initial, None, 0
    for number in range(1, 41):
        given = drift(model, number)
        copy = {n: v.copy() for n, v in given.items()}
        model, side = step.after_aggregate(given, {}, {"zeros": 0.5}, number)
        assert side == {}
        assert equal(given, copy), "the aggregate was changed in place"
        now = support(model, names)
        last = 3 * ((number - 1) // 3)  # when masks were last found, counting from 0
        zeros = round(cubic_sparsity(last + 1, 40, 0.5, 0.95) * now.size)
        assert np.count_nonzero(~now) == zeros
        for name, value in model.items():
            kept = value != 0 if name in names else np.ones(value.shape, bool)
            assert np.array_equal(value[kept], given[name][kept])
        if before is not None:
            grown += int(np.count_nonzero(now & ~before))
            if number - 1 != last:
                assert np.array_equal(now, before)
        before = now
    assert (grown > 0) == (mode == "prune_dense_average")


def test_feddip_ranks_all_layers_together_by_magnitude() -> None:
    step, setup = step_of("server_step.start=0.8")
    given = drift(setup.initial, 1)
    model, _ = step.after_aggregate(given, {}, {}, 1)
    weights = {n: given[n] for n in step._shapes}
    flat = np.sort(np.concatenate([np.abs(v).reshape(-1) for v in weights.values()]))
    threshold = flat[round(0.8 * flat.size)]
    for name, value in weights.items():
        assert np.array_equal(model[name] != 0, np.abs(value) >= threshold)


@pytest.mark.parametrize("mode", ["mask_then_prune", "prune_dense_average"])
@pytest.mark.parametrize("stop", [1, 4, 6])
def test_feddip_goes_on_from_a_saved_state(mode: str, stop: int) -> None:
    step, setup = step_of(f"server_step.reconfigure={mode}")
    model = setup.initial
    for number in range(1, stop + 1):
        model, _ = step.after_aggregate(drift(model, number), {}, {"zeros": 0.3}, number)
    arrays, values = step.save()
    twin, _ = step_of(f"server_step.reconfigure={mode}")
    twin.load(load(save(arrays)), json.loads(json.dumps(values)))
    for number in range(stop + 1, stop + 8):
        given = drift(model, number)
        model, _ = step.after_aggregate(given, {}, {"zeros": 0.4}, number)
        assert equal(twin.after_aggregate(given, {}, {"zeros": 0.4}, number)[0], model)
    assert twin.account() == step.account()


def test_feddip_never_empties_a_layer_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    step, setup = step_of("server_step.start=0.99", "server_step.target=0.99")
    given = drift(setup.initial, 1)
    given["3.weight"] = given["3.weight"] * np.float32(1e-6)
    with caplog.at_level(logging.WARNING, "strategies"):
        model, _ = step.after_aggregate(given, {}, {}, 1)
    (index,) = np.flatnonzero(model["3.weight"])
    assert index == np.abs(given["3.weight"]).argmax()
    assert (
        "at a sparsity of 0.9900 nothing would be left of 3.weight; the largest weight stays"
        in caplog.text
    )


def test_feddip_nested_keeps_a_weight_of_a_layer_that_became_zero() -> None:
    step, setup = step_of("server_step.start=0.99", "server_step.target=0.99")
    given = drift(setup.initial, 1)
    given["3.weight"] = given["3.weight"] * np.float32(1e-6)
    model, _ = step.after_aggregate(given, {}, {}, 1)
    (index,) = np.flatnonzero(model["3.weight"])
    for number in (2, 3, 4):
        step.after_aggregate(model | {"3.weight": np.zeros_like(given["3.weight"])}, {}, {}, number)
    again = model | {"3.weight": np.ones_like(given["3.weight"])}
    model, _ = step.after_aggregate(again, {}, {}, 5)
    assert np.flatnonzero(model["3.weight"]).tolist() == [index]


def test_feddip_counts_as_its_paper_does() -> None:
    assert cost(0.0, 23_272_266) == pytest.approx(710.2, abs=0.05)
    step, setup = step_of("clients=16", "fraction=0.25")
    sizes = setup.manifest.parameters
    expected = {"uplink": 0.0, "downlink": 0.0}
    model = setup.initial
    for number in range(1, 8):
        zeros = 0.1 * number
        model, _ = step.after_aggregate(drift(model, number), {}, {"zeros": zeros}, number)
        now = cubic_sparsity(number, 40, 0.5, 0.95)
        expected["uplink"] += 4 * int(32 * (1 - zeros) * sizes) / 2**20
        expected["downlink"] += 4 * int(32 * (1 - now) * sizes) / 2**20
    found = step.account()["paper_bytes"]
    assert isinstance(found, dict)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["total"] == pytest.approx(sum(expected.values()))
    assert found["unit"] == "mebibit"
    before = found["uplink"]
    for lie, charged in ((1e300, 0), (-1e300, 4 * 32 * sizes / 2**20)):
        step.after_aggregate(drift(model, 8), {}, {"zeros": lie}, 8)
        found = step.account()["paper_bytes"]
        assert isinstance(found, dict)
        assert found["uplink"] == pytest.approx(before + charged)


def test_feddip_leaves_shortcuts_dense() -> None:
    words = [word for word in WORDS if not word.startswith("model")]
    setup = Setup(parse(compose_config(["method=feddip", *words, "model=resnet18_cifar"])))
    step = setup.settings.server_step.create(setup)
    assert isinstance(step, Masking)
    dense = {s.name for s in setup.manifest.specs if s.kind is Kind.WEIGHT} - set(step._shapes)
    assert {setup.manifest.by_name[name].shape for name in dense} == {
        (2 * width, width, 1, 1) for width in (64, 128, 256)
    }


def test_there_has_to_be_something_to_prune() -> None:
    with pytest.raises(ConfigError, match=r"server_step=feddip: there are no weights to prune"):
        setup_of("train.parameters=bias").check()


def test_masks_do_not_grow_denser() -> None:
    with pytest.raises(ConfigError, match=r"start=0.9 is above target=0.5: masks grow sparser"):
        setup_of("server_step.start=0.9", "server_step.target=0.5")


def test_masked_training_sends_no_weights_that_may_come_back() -> None:
    words = ("method=magnitude", "server_step.reconfigure=prune_dense_average")
    with pytest.raises(ConfigError, match="looks at all weights in some rounds; choose recipe="):
        setup_of(*words)


def test_a_sparse_model_that_starts_dense_needs_zeros_to_stay() -> None:
    with pytest.raises(ConfigError, match=r"downlink\.mode=absolute or codec@downlink=masked"):
        setup_of("server_step.start=0", "codec@downlink=uniform")


@pytest.mark.parametrize("codec", ["cast", "uniform", "topk", "stc", "fsfl", "kmeans"])
def test_a_downlink_that_makes_something_of_zeros_is_refused(codec: str) -> None:
    with pytest.raises(
        ConfigError, match=f"codec@downlink={codec}: with these settings a zero may"
    ):
        setup_of(f"codec@downlink={codec}")


def scores(setup: Setup, seed: int) -> Array:
    count = sum(value.size for value in setup.initial.values() if value.ndim > 1)
    return np.random.default_rng(seed).random(count).astype(np.float16)


def test_snip_keeps_what_scores_best_on_average_and_never_asks_again() -> None:
    step, setup = step_of("method=snip", "server_step.target=0.9")
    found = [scores(setup, 1), scores(setup, 2) * np.float16(0.01)]  # of one sum each
    sides = {str(at): {SCORES: value} for at, value in enumerate(found)}
    given = drift(setup.initial, 1)
    model, _ = step.after_aggregate(given, sides, {}, 1)
    mean = sum(value / value.sum(dtype=float) for value in found)
    shapes = {name: setup.initial[name].shape for name in ("1.weight", "3.weight")}
    first = int(np.prod(shapes["1.weight"]))
    parts = {"1.weight": mean[:first], "3.weight": mean[first:]}
    masks, _ = magnitude_masks({n: v.reshape(shapes[n]) for n, v in parts.items()}, 0.9)
    for number in (2, 3):
        for name, mask in masks.items():
            assert np.array_equal(model[name] != 0, mask)
        model, _ = step.after_aggregate(drift(model, number), {}, {}, number)


def test_snip_does_without_scores_that_are_none() -> None:
    step, setup = step_of("method=snip", "server_step.target=0.9")
    good = scores(setup, 1)
    bad: list[Tensors] = [
        {},
        {SCORES: good[:-1]},
        {SCORES: good.reshape(1, -1)},
        {SCORES: np.where(good > 0.5, np.float16("inf"), good)},
        {SCORES: np.where(good > 0.5, np.float16("nan"), good)},
        {SCORES: -good},
        {SCORES: np.zeros_like(good)},
        {"others": good},
    ]
    with pytest.raises(RoundError, match="no client sent usable scores; server_step=snip needs"):
        step.after_aggregate(drift(setup.initial, 1), dict(enumerate_sites(bad)), {}, 1)
    sides = {**dict(enumerate_sites(bad)), "good": {SCORES: good}}
    model, _ = step.after_aggregate(drift(setup.initial, 1), sides, {}, 1)
    alone, _ = step_of("method=snip", "server_step.target=0.9")
    own = {"g": {SCORES: good}}
    assert equal(model, alone.after_aggregate(drift(setup.initial, 1), own, {}, 1)[0])


def enumerate_sites(sides: list[Tensors]) -> list[tuple[str, Tensors]]:
    return [(str(at), side) for at, side in enumerate(sides)]


@pytest.mark.parametrize("words", [("recipe=local",), ("server_step=none",)])
def test_snip_needs_both_ends(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="the scores of SNIP need both ends; choose method=snip"):
        setup_of("method=snip", *words)
