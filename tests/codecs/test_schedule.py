from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.codecs.schedule import Schedule

SHAPES = ("linear", "cosine", "cubic")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("start", "end"), [(8.0, 2.0), (0.01, 0.5)])
def test_ends_and_formulas(shape: str, start: float, end: float) -> None:
    schedule = Schedule("bits", start, end, shape, rounds=21)  # type: ignore[arg-type]
    formulas = {
        "linear": lambda x: start + (end - start) * x,
        "cosine": lambda x: end + (start - end) * (1 + math.cos(math.pi * x)) / 2,
        "cubic": lambda x: end + (start - end) * (1 - x) ** 3,
    }
    for number in range(1, 22):
        expected = formulas[shape]((number - 1) / 20)
        assert schedule.at_round(number) == pytest.approx(expected, rel=1e-12)
    assert schedule.at_round(0) == schedule.at_round(1) == start
    assert schedule.at_round(21) == schedule.at_round(99) == pytest.approx(end, rel=1e-15)


def test_published_sparsities() -> None:
    cubic = Schedule("rate", 0.5, 0.95, "cubic", rounds=1001)
    values = [round(cubic.at_round(t + 1), 3) for t in (0, 100, 250, 500, 750, 999)]
    assert values == [0.5, 0.622, 0.760, 0.894, 0.943, 0.950]


def test_doubling_stops_at_its_end() -> None:
    up = Schedule("s", 1, 10, "doubling", every=3)
    assert [up.at_round(t) for t in (1, 3, 4, 6, 7, 10, 13, 99)] == [1, 1, 2, 2, 4, 8, 10, 10]
    down = Schedule("density", 0.04, 0.01, "doubling", every=1)
    assert [down.at_round(t) for t in (0, 1, 2, 3, 4)] == [0.04, 0.04, 0.02, 0.01, 0.01]


@given(st.floats(1, 1e3), st.floats(1, 1e3), st.integers(1, 200))
def test_without_every_all_values_last_equally_long(start: float, end: float, rounds: int) -> None:
    schedule = Schedule("x", start, end, "doubling", rounds=rounds)
    values = [schedule.at_round(t) for t in range(1, rounds + 1)]
    assert values == sorted(values, reverse=end < start)
    assert values[0] == start
    stages = schedule.doublings + 1
    counts = [values.count(schedule.after(k)) for k in range(stages)]
    assert sum(counts) == rounds
    assert max(counts) - min(counts) <= 1


@given(st.floats(1, 1e3), st.floats(1, 1e3), st.integers(1, 200))
def test_late_stages_leave_half_of_the_rounds(start: float, end: float, rounds: int) -> None:
    schedule = Schedule("x", start, end, "late_doubling", rounds=rounds)
    values = [schedule.at_round(t) for t in range(1, rounds + 1)]
    assert values == sorted(values, reverse=end < start)
    assert values[0] == start
    assert schedule.at_round(rounds + 1) == schedule.at_round(9 * rounds) == end
    last = schedule.doublings
    for k in range(last):
        left = rounds - sum(values.count(schedule.after(j)) for j in range(k + 1))
        halved = rounds // 2 ** (k + 1)
        assert left == (halved if halved >= last - k else min(last - k, rounds - 1))
    if rounds > last:
        assert values[-1] == end
        assert len(set(values)) == last + 1


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_doublings_are_as_many_as_change_the_value(start: float, end: float) -> None:
    schedule = Schedule("x", start, end, "adaptive", every=1)
    values = [schedule.after(k) for k in range(schedule.doublings + 2)]
    assert values[0] == start
    assert values[-1] == values[-2] == end
    assert len(set(values)) == schedule.doublings + 1
    assert values == sorted(values, reverse=end < start)


def test_one_round_and_constants() -> None:
    assert Schedule("bits", 8, 2, "linear", rounds=1).at_round(1) == 8
    assert Schedule("bits", 8, shape="constant").at_round(50) == 8
    assert Schedule("bits", 8, 2, "adaptive", every=1).at_round(50) == 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": "linear"}, "end is needed"),
        ({"shape": "constant", "end": 2}, "end means nothing"),
        ({"shape": "adaptive", "end": 2}, "every is needed"),
        ({"shape": "doubling", "end": 2, "every": 2, "rounds": 5}, "rounds means nothing"),
        ({"shape": "cosine", "end": 2, "every": 2}, "every means nothing"),
        ({"shape": "adaptive", "end": 2, "every": 2, "rounds": 5}, "rounds means nothing"),
    ],
)
def test_what_means_nothing_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule("bits", start=8, **values)  # type: ignore[arg-type]
