"""Bisected settings are those that trying all of them would give."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.advise.candidates import candidates
from fedcomp.advise.knobs import lines
from fedcomp.advise.measure import Bench, Measured
from fedcomp.advise.search import Answer, best_setting, in_order, last_fitting, lowest, undominated
from fedcomp.codecs import CODECS
from fedcomp.codecs.none import NoCompression
from fedcomp.errors import CodecError
from fedcomp.settings import Settings

BUDGETS = (300, 700, 1000, 1500, 2500, 4000, 9000)


@given(st.lists(st.integers(0, 50)), st.integers(0, 50))
def test_the_last_that_fits(sizes: list[int], budget: int) -> None:
    sizes.sort()
    found = last_fitting(len(sizes), lambda at: sizes[at] <= budget)
    fitting = [at for at, size in enumerate(sizes) if size <= budget]
    assert found == (fitting[-1] if fitting else None)


@given(st.sets(st.integers(0, 1000), min_size=1), st.integers(0, 1000))
def test_the_least_of_a_valley(places: set[int], bottom: int) -> None:
    error = [abs(place - bottom) for place in sorted(places)]
    assert error[lowest(0, len(error) - 1, error.__getitem__)] == min(error)


def answers(bench: Bench, settings: Settings, words: list[str], name: str) -> list[Answer]:
    make = dict(candidates(words, settings))[name]
    return [best_setting(name, make, bench, budget) for budget in BUDGETS]


@pytest.mark.parametrize("name", sorted(set(CODECS.builtin)))
def test_more_room_never_means_more_loss(
    name: str, bench: Bench, settings: Settings, words: list[str]
) -> None:
    found = answers(bench, settings, words, name)
    assert [a.fits for a in found] == sorted(a.fits for a in found)
    fitting = [(a, b) for a, b in zip(found, BUDGETS, strict=True) if a.fits]
    assert all(answer.measured.packet_bytes <= budget for answer, budget in fitting)
    errors = [answer.measured.error for answer, _ in fitting]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("name", ["deepcabac", "eden", "powersgd", "stc", "topk", "uniform"])
def test_no_setting_of_a_line_is_much_better(
    name: str, bench: Bench, settings: Settings, words: list[str]
) -> None:
    make = dict(candidates(words, settings))[name]
    everything: list[tuple[int, float]] = []
    for line in lines(name, bench.change, bench.session.manifest):
        base = make(line.settings(0))
        for at in range(len(line.values)):
            codec = replace(base, **line.settings(at))  # type: ignore[arg-type]
            try:
                length, symbols = bench.tried(codec)
            except CodecError:
                continue
            everything.append((length, bench.error(codec, symbols)))
    for answer, budget in zip(answers(bench, settings, words, name), BUDGETS, strict=True):
        fitting = [error for size, error in everything if size <= budget]
        assert ("fine_step" in answer.settings) == (not fitting)
        if fitting:
            assert answer.measured.error <= 1.1 * min(fitting)
        else:
            assert answer.measured.packet_bytes < min(size for size, _ in everything)


def test_what_travels_is_measured(bench: Bench, settings: Settings, words: list[str]) -> None:
    exact = best_setting("none", dict(candidates(words, settings))["none"], bench, 10**6)
    size = 4 * bench.session.manifest.elements
    assert exact.measured.payload_bytes == pytest.approx(size, rel=0.01)
    assert exact.measured.packet_bytes == exact.measured.payload_bytes + 36
    assert (exact.measured.error, exact.measured.cosine) == (0, pytest.approx(1))


def test_signs_of_the_mean_size_lose_least(
    bench: Bench, settings: Settings, words: list[str]
) -> None:
    make = dict(candidates(words, settings))["signsgd"]
    answer = best_setting("signsgd", make, bench, 10**6)
    step = answer.settings["step"]
    assert isinstance(step, float)
    for factor in (0.8, 1.25):
        other = make({"step": step * factor})
        assert bench.error(other, bench.tried(other)[1]) > answer.measured.error


def answer(name: str, size: int, error: float, *, fits: bool = True) -> Answer:
    return Answer(name, {}, Measured(NoCompression(), size, size, error, 0.0, 0.0, 0.0), fits)


def test_order_and_front_by_hand() -> None:
    given = [
        answer("large", 90, 0.1), answer("huge", 500, 0.0, fits=False), answer("small", 10, 0.5),
        answer("worse", 95, 0.1), answer("bad", 50, 0.6), answer("vast", 400, 0.2, fits=False),
    ]  # fmt: skip
    assert [a.name for a in in_order(given)] == ["large", "worse", "small", "bad", "vast", "huge"]
    fitting = [a for a in given if a.fits]
    assert [a.name for a in undominated(fitting)] == ["small", "large"]
