"""What is written, against what is read from it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedcomp.codecs.grid import grid_for
from fedcomp.coding.nnc_stream import read_model
from fedcomp.quantise.settings import QuantiseSettings
from fedcomp.quantise.training import train_levels
from fedcomp.training.loop import evaluate
from tests.quantise.conftest import Cases, Run


@pytest.mark.parametrize("name", ["mlp", "small_cnn"])
def test_four_bits_keep_the_accuracy(name: str, quantise: Run, cases: Cases) -> None:
    found = quantise(name, "out", quantiser="ecq", epochs=2)
    case = cases(name)
    before, after = found["before"]["test"]["accuracy"], found["after"]["test"]["accuracy"]
    assert before == case.measure(case.test)["accuracy"] > 0.85
    decoded = load_file("out/model.safetensors")
    assert after == case.measure(case.test, decoded)["accuracy"] > before - 0.02
    assert found["ratio"] > 6
    assert found["sparsity"] > 0.2


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mlp", {"quantiser": "nearest"}),
        ("small_cnn", {"quantiser": "ecq", "epochs": 1, "bits": 2}),
        ("resnet20", {"quantiser": "nearest", "bits": 3}),
        ("resnet20", {"quantiser": "ecq", "epochs": 1, "samples": 128, "patience": 1}),
    ],
)
def test_the_stream_alone_is_the_model(
    name: str, settings: dict[str, Any], quantise: Run, cases: Cases
) -> None:
    found, start = quantise(name, "out", **settings), cases(name).model
    stream = Path("out/model.nnc").read_bytes()
    model, saved = read_model(stream).tensors, load_file("out/model.safetensors")
    assert found["bytes"] == len(stream)
    assert list(model) == list(start)
    rows = {row["name"]: row for row in found["layers"]}
    for key, tensor in model.items():
        assert saved[key].dtype == start[key].dtype
        assert saved[key].shape == start[key].shape
        if saved[key].dtype.kind == "i":
            assert np.array_equal(tensor.levels, saved[key])
            assert saved[key] >= start[key] > 0
            continue
        assert np.array_equal(tensor.values(), saved[key])
        if saved[key].ndim > 1:
            levels = np.unique(tensor.levels)
            assert len(levels) == rows[key]["levels"]
            assert levels[-1] - levels[0] < 2 ** found["settings"]["bits"]
            assert rows[key]["zeros"] == int((saved[key] == 0).sum())
        elif not found["chosen_epoch"]:
            assert np.abs(saved[key] - start[key]).max() < 2e-6
    assert 0.2 * len(stream) < sum(row["bytes"] for row in rows.values()) < len(stream)


def test_nearest_is_the_nearest_level_of_the_grid(quantise: Run, cases: Cases) -> None:
    quantise("mlp", "out", quantiser="nearest", bits=3)
    saved = load_file("out/model.safetensors")
    for name, values in cases("mlp").model.items():
        if values.ndim > 1:
            grid = grid_for(values, 3, 0.999)
            apart = np.abs(values[..., None].astype(np.float64) - grid.values)
            expected = grid.values[apart.argmin(-1)]
            assert np.array_equal(saved[name], expected.astype(np.float32))


def test_each_bit_costs_bytes(quantise: Run) -> None:
    sizes = [
        quantise("mlp", f"out{bits}", quantiser="ecq", epochs=0, gamma=0.01, bits=bits)["bytes"]
        for bits in (2, 3, 4, 5)
    ]
    assert all(more > 1.1 * less for less, more in pairwise(sizes))


def test_the_price_of_a_bit_makes_zeros(quantise: Run) -> None:
    free, dear = (
        quantise("mlp", f"out{gamma}", quantiser="ecq", epochs=0, gamma=gamma)
        for gamma in (0.0, 0.3)
    )
    assert dear["sparsity"] > free["sparsity"] + 0.1
    assert dear["bytes"] < free["bytes"]


def test_the_best_epoch_is_kept_and_idle_ones_end_it(quantise: Run) -> None:
    found = quantise("mlp", "out", quantiser="ecq", bits=2, epochs=9, patience=2, min_delta=0.9)
    history = [epoch["validation"] for epoch in found["epochs"]]
    assert len(history) == 3
    assert history[0] < max(history)
    assert found["chosen_epoch"] == int(np.argmax(history))
    assert found["after"]["validation"]["accuracy"] == pytest.approx(max(history), abs=0.01)


def test_the_figures_are_those_of_the_files(quantise: Run, cases: Cases) -> None:
    found = quantise("mlp", "out", quantiser="nearest")
    saved = load_file("out/model.safetensors")
    assert found["float_bytes"] == 4 * sum(value.size for value in saved.values())
    assert found["ratio"] == found["float_bytes"] / Path("out/model.nnc").stat().st_size
    weights = [value for value in saved.values() if value.ndim > 1]
    count = sum(value.size for value in weights)
    assert math.isclose(found["sparsity"], sum(int((v == 0).sum()) for v in weights) / count)
    assert math.isclose(
        found["bits_per_weight"], 8 * sum(row["bytes"] for row in found["layers"]) / count
    )
    case = cases("mlp")
    case.measure(case.test, saved)
    assert found["after"]["test"] == evaluate(case.module, case.test, case.loop, task=case.task)


def test_a_weight_of_zeros_stays_so(cases: Cases) -> None:
    case = cases("mlp")
    name = next(n for n, value in case.model.items() if value.ndim > 1)
    model = case.model | {name: np.zeros_like(case.model[name])}
    settings = QuantiseSettings("", quantiser="ecq", epochs=1, samples=256)
    coded, _ = train_levels(replace(case, model=model), settings, lambda line: None)
    assert not coded[name].levels.any()


def test_relevance_changes_levels_the_same_way_each_time(quantise: Run) -> None:
    settings = {"epochs": 1, "gamma": 0.1, "samples": 512, "patience": 1}
    plain = quantise("small_cnn", "ecq", quantiser="ecq", **settings)
    spared, again = (
        quantise("small_cnn", out, quantiser="ecqx", **settings) for out in ("ecqx", "again")
    )
    for at in range(2):  # before the first step, too
        assert plain["epochs"][at] != spared["epochs"][at]
    assert spared["after"]["test"]["accuracy"] > spared["before"]["test"]["accuracy"] - 0.03
    assert again["epochs"] == spared["epochs"]
    assert Path("again/model.nnc").read_bytes() == Path("ecqx/model.nnc").read_bytes()
