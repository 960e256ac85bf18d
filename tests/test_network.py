"""Times of transfers: against hand-computed cases and a simulation in small steps."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.network import Network, arrivals, delay, fair_rates, line, rate

CASES = [
    # starts, bits, most, capacity, ends
    ([0], [100], [10], None, [10]),
    ([3], [100], [10], 1000, [13]),
    ([0, 0], [100, 100], [10, 10], 10, [20, 20]),  # 5 each
    ([0, 0], [50, 100], [10, 10], 10, [10, 15]),  # 5 each for 10 s, then 10
    ([0, 0], [10, 100], [1, 10], 10, [10, 11]),  # 1 and 9 for 10 s: 10 left of 100, then 10
    ([0, 5], [100, 100], [10, 10], 10, [15, 20]),  # 50 alone, 5 each to 15, then 50 left at 10
    ([0, 100], [100, 100], [10, 10], 10, [10, 110]),  # never at once
    ([1, 2], [0, 10], [10, 10], 10, [1, 3]),  # nothing to send
    ([0, 0, 0], [30, 60, 90], [10, 10, 10], 15, [6, 10, 13]),  # 5 each; 7.5 each for 4 s; 10
]


@pytest.mark.parametrize(("starts", "bits", "most", "capacity", "ends"), CASES)
def test_hand_computed_transfers(
    starts: list[float],
    bits: list[float],
    most: list[float],
    capacity: float | None,
    ends: list[float],
) -> None:
    assert arrivals(starts, bits, most, capacity) == pytest.approx(ends)


amounts = st.floats(0.0, 100.0)
transfers = st.lists(st.tuples(st.floats(0.0, 10.0), amounts, st.floats(0.5, 20.0)), min_size=1)


def step_by_step(
    starts: list[float], bits: list[float], most: list[float], capacity: float, step: float
) -> list[float]:
    """Let every transfer that runs move on by its share, a short step at a time."""
    left, ends, now = list(bits), [math.inf] * len(bits), 0.0
    for at, count in enumerate(bits):
        if count == 0:
            ends[at] = starts[at]
    while math.inf in ends:
        active = [i for i, end in enumerate(ends) if end == math.inf and starts[i] <= now]
        share, waiting = capacity, sorted(active, key=lambda i: most[i])
        for at, i in enumerate(waiting):  # whoever can use least first
            speed = min(most[i], share / (len(waiting) - at))
            share -= speed
            left[i] -= speed * step
            if left[i] <= 0:
                ends[i] = now + step
        now += step
    return ends


whole = st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(1, 5))


@given(st.lists(whole, min_size=1, max_size=5), st.integers(2, 9))
def test_transfers_end_as_in_small_steps(
    given_transfers: list[tuple[int, int, int]], capacity: int
) -> None:
    starts, bits, most = (list(map(float, column)) for column in zip(*given_transfers, strict=True))
    slow = step_by_step(starts, bits, most, capacity, 0.02)
    assert arrivals(starts, bits, most, capacity) == pytest.approx(slow, abs=0.2)


@given(transfers, st.floats(0.5, 50.0))
def test_a_shared_line_carries_what_it_can_and_no_more(
    given_transfers: list[tuple[float, float, float]], capacity: float
) -> None:
    starts, bits, most = zip(*given_transfers, strict=True)
    ends = arrivals(starts, bits, most, capacity)
    alone = arrivals(starts, bits, most, None)
    for end, least in zip(ends, alone, strict=True):
        assert end >= least * (1 - 1e-9)
    busy = max(ends) - min(starts)
    assert sum(bits) <= capacity * busy * (1 + 1e-9) + 1e-9
    wide = arrivals(starts, bits, most, sum(most))
    assert wide == pytest.approx(alone)
    more = arrivals(starts, bits, most, capacity * 2)
    assert all(late >= early * (1 - 1e-9) for late, early in zip(ends, more, strict=True))


@pytest.mark.parametrize("bits", [5e-324, 1e-310, 1e-9, 1e18])
def test_transfers_of_any_size_end(bits: float) -> None:
    ends = arrivals([0.0, 1.0, 1e9], [bits, bits, bits], [3.0, 7.0, 5.0], 3.0)
    assert all(end >= start + bits / 3.0 for end, start in zip(ends, (0, 1, 1e9), strict=True))


@given(st.lists(st.floats(0.1, 100.0), min_size=1), st.floats(0.1, 500.0))
def test_shares_are_max_min_fair(most: list[float], capacity: float) -> None:
    """All is used that can be, and whoever gets less than it can use gets as much as anybody."""
    given_rates = np.array(most)
    found = fair_rates(given_rates, capacity)
    assert found.sum() == pytest.approx(min(capacity, given_rates.sum()))
    assert (found <= given_rates * (1 + 1e-12)).all()
    held_back = found < given_rates * (1 - 1e-9)
    assert (found[held_back] >= found.max() * (1 - 1e-9)).all()


def test_the_lines_of_many_clients_are_spread_as_asked() -> None:
    network = Network(
        "custom", up_mbps=5, down_mbps=20, spread=0.5, compute_spread=0.3, compute_factor=4
    )
    lines = [line(network, 1, str(site)) for site in range(4000)]
    logs = {name: np.log([getattr(one, name) for one in lines]) for name in vars(lines[0])}
    medians = {name: float(np.exp(np.median(values))) for name, values in logs.items()}
    assert medians == pytest.approx({"up": 5e6, "down": 20e6, "compute_factor": 4}, rel=0.05)
    assert np.std(logs["up"]) == pytest.approx(0.5, rel=0.05)
    assert np.std(logs["compute_factor"]) == pytest.approx(0.3, rel=0.05)
    assert line(network, 1, "7") == lines[7]
    assert line(network, 2, "7") != lines[7]


def test_stragglers_are_slower_in_everything() -> None:
    plain = Network("custom")
    some = Network("custom", stragglers=0.25, straggler_factor=8)
    usual, slow = line(plain, 1, "0"), 0
    for site in range(2000):
        found = line(some, 1, str(site))
        if found != usual:
            slow += 1
            assert (found.up, found.down) == (usual.up / 8, usual.down / 8)
            assert found.compute_factor == 8
    assert slow / 2000 == pytest.approx(0.25, abs=0.03)


def test_losses_bound_a_fast_line_more_than_a_slow_one() -> None:
    rates = [rate(Network("x", latency_ms=50, loss=loss), 100) for loss in (0, 1e-4, 1e-3, 1e-2)]
    assert rates[0] == 100e6
    assert all(a > b for a, b in pairwise(rates))
    assert rates[1] / rates[2] == pytest.approx(math.sqrt(10))
    assert rate(Network("x", latency_ms=50, loss=0.01), 0.1) == pytest.approx(0.099e6)
    assert rate(Network("x", loss=0.5), 8) == 4e6  # without a delay a loss costs its bytes alone


def test_delays_are_the_latency_and_a_draw() -> None:
    assert delay(Network("x", latency_ms=20), 1, "a") == 0.02
    shaky = Network("x", latency_ms=20, jitter_ms=10)
    drawn = [delay(shaky, 1, number) for number in range(4000)]
    assert min(drawn) >= 0.02
    assert np.mean(drawn) == pytest.approx(0.03, rel=0.05)
    assert delay(shaky, 1, 5) == drawn[5]


def test_a_transfer_that_never_starts_ends_never() -> None:
    assert arrivals([math.inf, 0.0], [8.0, 8.0], [1.0, 1.0], 10) == [math.inf, 8.0]
