from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.training.cluster_count import ClusterCount, Controller


def trace(
    accuracies: list[float], ranks: list[float], least: int = 8, most: int = 30, patience: int = 4
) -> list[int]:
    """Return the number of clusters after each round, by the rule as it is written."""
    counts: list[int] = []
    now, out = least, []
    for t in range(len(accuracies)):
        counts.append(now)

        def rolling(values: list[float], end: int) -> float:
            part = values[max(0, end - 2) : end + 1]
            return sum(part) / len(part)

        k = now - least
        limit = 0.01 if k == 0 else 0.01 / (2 * k)
        enough = counts.count(now) >= patience and len(counts) >= 3 and t > 0
        flat = enough and (
            rolling(accuracies, t) - rolling(accuracies, t - 1) <= limit + 1e-12
            and rolling(ranks, t) - rolling(ranks, t - 1) <= 10 * limit + 1e-12
        )
        now += int(flat and now < most)
        out.append(now)
    return out


@given(st.integers(0, 999), st.integers(5, 60))
@settings(deadline=None)
def test_traces_are_those_of_the_rule(seed: int, rounds: int) -> None:
    rng = np.random.default_rng(seed)
    accuracies = np.cumsum(rng.normal(0.004, 0.01, rounds)).tolist()
    ranks = np.cumsum(rng.normal(0.03, 0.08, rounds)).tolist()
    controller = Controller(ClusterCount(most=12))
    found = [controller.record(*pair) for pair in zip(accuracies, ranks, strict=True)]
    assert found == trace(accuracies, ranks, most=12)


def test_one_step_in_four_rounds_of_a_plateau_and_never_down() -> None:
    controller = Controller(ClusterCount())
    found = [controller.record(0.9, 30.0) for _ in range(120)]
    assert found[:12] == [8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 10, 11]
    assert max(found) == 30
    falling = Controller(ClusterCount())
    assert [falling.record(1 - n / 100, 30.0) for n in range(5)] == [8, 8, 8, 9, 9]


@pytest.mark.parametrize("gains", [(0.02, 0.0), (0.0, 0.2)])
def test_what_still_improves_keeps_the_number(gains: tuple[float, float]) -> None:
    controller = Controller(ClusterCount())
    assert {controller.record(n * gains[0], n * gains[1]) for n in range(40)} == {8}


def test_a_controller_goes_on_from_its_lists() -> None:
    first = Controller(ClusterCount())
    for n in range(7):
        first.record(n / 1000, 3.0)
    twin = Controller(
        first.settings, [*first.accuracies], [*first.ranks], [*first.counts], first.clusters
    )
    assert [first.record(0.007, 3.0) for _ in range(9)] == [
        twin.record(0.007, 3.0) for _ in range(9)
    ]


def test_bounds_are_in_order() -> None:
    with pytest.raises(ValueError, match="least=9 is above most=8"):
        ClusterCount(9, 8)
