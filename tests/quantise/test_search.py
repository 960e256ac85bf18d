"""The search of DeepCABAC's step and price, against trying everything."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from fedcomp.errors import CodecError
from fedcomp.quantise import search
from fedcomp.quantise.case import Case
from fedcomp.quantise.search import Point, importance, quantised, relative_steps, smallest
from fedcomp.quantise.settings import QuantiseSettings
from fedcomp.quantise.stream import complete, read, write
from tests.quantise.conftest import Cases, Run

OFFSETS = tuple(range(-512, 257, 64))
WEIGHTS = (0.0, 0.02, 0.05, 0.1)


@pytest.fixture(scope="module")
def case(cases: Cases) -> Case:
    return cases("mlp")


def error(case: Case, stream: bytes) -> float:
    """Return by how much weights are off, which grows with each step."""
    model = read(stream, case.manifest)
    return sum(float(np.square(v - case.model[n]).sum()) for n, v in model.items() if v.ndim > 1)


@pytest.mark.parametrize("most", [1e-9, 0.5, 3.0, 20.0, 1e9])
def test_bisection_finds_what_trying_everything_finds(case: Case, most: float) -> None:
    fisher = importance(case)
    steps = relative_steps(case, fisher)
    tried: set[Point] = set()

    @cache
    def stream(point: Point) -> bytes:
        found = {n: quantised(case.model[n], s, fisher[n], point) for n, s in steps.items()}
        return write(complete(found, case.model, case.manifest))

    def good(point: Point) -> bool:
        tried.add(point)
        return error(case, stream(point)) <= most

    def size(point: Point) -> int:
        return len(stream(point))

    found = smallest(OFFSETS, WEIGHTS, size, good)
    bisected = len(tried)
    every = [Point(offset, weight) for offset in OFFSETS for weight in WEIGHTS]
    allowed = [point for point in every if good(point)]
    assert found == min(allowed, key=size, default=None)
    assert bisected <= 16 < len(every)


def test_the_tolerance_is_kept_in_fewer_bytes_than_nearest_levels_take(quantise: Run) -> None:
    found = quantise("mlp", "out", quantiser="deepcabac", tolerance=0.01)
    least = found["before"]["validation"]["accuracy"] - 0.01
    assert found["after"]["validation"]["accuracy"] >= least
    good = [row["bytes"] for row in found["tried"] if row["validation_accuracy"] >= least]
    assert found["bytes"] == min(good)
    for bits in range(2, 9):
        rounded = quantise("mlp", f"out{bits}", quantiser="nearest", bits=bits)
        if rounded["after"]["validation"]["accuracy"] >= least:
            break
    assert found["bytes"] < 0.95 * rounded["bytes"]


def test_steps_are_in_proportion_to_weights_and_to_what_they_cost(case: Case) -> None:
    fisher = importance(case)
    steps = relative_steps(case, fisher)
    sizes = [case.model[name].size for name in steps]
    rms = {name: float(np.sqrt(np.mean(np.float64(case.model[name]) ** 2))) for name in steps}
    formula = {name: np.sqrt(rms[name] / np.sqrt(float(fisher[name].mean()))) for name in steps}
    assert np.ptp([steps[name] / formula[name] for name in steps]) < 1e-6 * steps.popitem()[1]
    steps = relative_steps(case, fisher)
    logs = [np.log(steps[name] / rms[name]) for name in steps]
    assert np.average(logs, weights=sizes) == pytest.approx(0, abs=1e-9)


def test_a_tolerance_may_be_too_little(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "OFFSETS", (256,))
    settings = QuantiseSettings("", quantiser="deepcabac", tolerance=0.0)
    with pytest.raises(CodecError, match=r"^tolerance=0: even the finest steps bring"):
        search.search_stream(case, settings, lambda line: None)
