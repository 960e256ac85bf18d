from __future__ import annotations

from math import comb

import numpy as np
import pytest

from fedcomp.codecs import draws
from fedcomp.codecs.draws import drawn, positions


@pytest.mark.parametrize(("size", "count"), [(6, 2), (6, 4), (5, 1), (5, 3), (8, 4), (7, 6)])
def test_every_subset_is_as_likely(size: int, count: int) -> None:
    number = comb(size, count)
    expected = 150
    found: dict[tuple[int, ...], int] = {}
    rng = np.random.default_rng(5)
    for _ in range(expected * number):
        subset = tuple(positions(size, count, rng).tolist())
        found[subset] = found.get(subset, 0) + 1
    assert len(found) == number
    assert all(len(subset) == count and list(subset) == sorted(set(subset)) for subset in found)
    deviation = sum((n - expected) ** 2 for n in found.values()) / expected
    freedom = number - 1
    assert deviation < freedom + 4 * np.sqrt(2 * freedom)
    assert deviation > freedom - 3 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("density", [0.01, 0.5, 0.93])
def test_positions_are_spread_evenly(density: float) -> None:
    """Chi-square of how often each of 100 ranges of a size that is no power of two is met."""
    size, cells, times = 100_003, 100, 20
    count = int(density * size)
    edges = np.linspace(0, size, cells + 1).astype(int)
    widths = np.diff(edges)
    totals = np.zeros(cells)
    for seed in range(times):
        at = positions(size, count, np.random.default_rng(seed))
        assert len(at) == count
        assert (np.diff(at) > 0).all()
        assert 0 <= at[0] <= at[-1] < size
        totals += np.histogram(at, edges)[0]
    expected = times * count * widths / size
    variances = expected * (1 - count / size)
    deviation = float((np.square(totals - expected) / variances).sum())
    assert 50 < deviation < 160  # of 99 degrees


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 0), (1, 1), (64, 64), (65, 0), (2, 1)])
def test_edges(size: int, count: int) -> None:
    mask = drawn(size, count, np.random.default_rng(1))
    assert mask.shape == (size,)
    assert np.count_nonzero(mask) == count


def test_only_words_of_the_bit_generator_are_used() -> None:
    """Brute force: the top bits of word after word, without what is out of range or known."""
    words = np.random.default_rng(3).bit_generator.random_raw(5000)
    chosen: list[int] = []
    for word in words.tolist():
        at = word >> (64 - 10)
        if at < 1000 and at not in chosen and len(chosen) < 400:
            chosen.append(at)
    assert positions(1000, 400, np.random.default_rng(3)).tolist() == sorted(chosen)
    rest = sorted(set(range(1000)) - set(chosen))
    assert positions(1000, 600, np.random.default_rng(3)).tolist() == rest


def test_how_many_words_are_asked_for_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = positions(3000, 1400, np.random.default_rng(2))
    monkeypatch.setattr(draws, "_MOST_WORDS", 7)
    assert np.array_equal(positions(3000, 1400, np.random.default_rng(2)), whole)
