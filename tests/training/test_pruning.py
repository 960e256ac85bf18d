from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.training.pruning import (
    cubic_sparsity,
    erk_densities,
    magnitude_masks,
    random_masks,
    staged_penalty,
)

SHAPES = {"a": (16, 3, 3, 3), "b": (32, 16, 3, 3), "c": (10, 512)}


def test_mean_density_of_the_published_schedule() -> None:
    values = [cubic_sparsity(t + 1, 1000, 0.5, 0.95) for t in range(1000)]
    assert 1 - np.mean(values) == pytest.approx(0.1627, abs=5e-5)
    assert values == sorted(values)


def test_the_penalty_rises_in_equal_stages_and_stays_in_the_last() -> None:
    values = [staged_penalty(t + 1, 1010, 20, 5e-4, 1e-3) for t in range(1010)]
    assert values[:50] == [0.0] * 50
    assert values[50:100] == [5e-4] * 50
    assert len(set(values)) == 20
    assert len(set(values[950:])) == 1
    assert max(values) == pytest.approx(9.737e-4, rel=1e-4)
    assert staged_penalty(3, 2, 20, 5e-4, 1e-3) == pytest.approx(5e-4 + 5e-4 / 19)


@given(st.integers(0, 99), st.floats(0, 0.99))
def test_masks_leave_out_the_smallest_of_all(seed: int, sparsity: float) -> None:
    rng = np.random.default_rng(seed)
    tensors = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    masks, spared = magnitude_masks(tensors, sparsity)
    total = sum(mask.size for mask in masks.values())
    dropped = sum(int((~mask).sum()) for mask in masks.values())
    assert dropped == round(sparsity * total) - len(spared)
    kept = np.concatenate([np.abs(tensors[n])[m] for n, m in masks.items() if n not in spared])
    gone = np.concatenate([np.abs(tensors[n])[~m] for n, m in masks.items()])
    assert not gone.size or kept.min() >= gone[gone < kept.min()].max(initial=0)
    assert all(mask.any() for mask in masks.values())


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.floats(0, 0.99))
def test_of_equal_weights_the_first_are_left_out(values: list[int], sparsity: float) -> None:
    flat = np.array(values, float)
    order = np.argsort(np.abs(flat), kind="stable")[: round(sparsity * flat.size)]
    expected = np.ones(flat.size, bool)
    expected[order] = False
    masks, spared = magnitude_masks({"w": flat}, sparsity)
    assert spared or np.array_equal(masks["w"], expected)


def test_nothing_to_prune() -> None:
    assert magnitude_masks({}, 0.5) == ({}, [])


def test_a_layer_of_tiny_weights_keeps_its_largest() -> None:
    tensors = {"big": np.ones((10, 10)), "tiny": np.array([[1e-9, -3e-9], [2e-9, 0.0]])}
    masks, spared = magnitude_masks(tensors, 0.5)
    assert spared == ["tiny"]
    assert masks["tiny"].tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5, 0.9, 1.0])
def test_densities_of_layers_add_up(density: float) -> None:
    found = erk_densities(SHAPES, density)
    sizes = {name: int(np.prod(shape)) for name, shape in SHAPES.items()}
    total = sum(found[name] * sizes[name] for name in SHAPES)
    assert total == pytest.approx(density * sum(sizes.values()))
    assert all(0 < value <= 1 for value in found.values())
    masks = random_masks(SHAPES, found, np.random.default_rng(1))
    assert {n: int(m.sum()) for n, m in masks.items()} == {
        name: round(found[name] * sizes[name]) for name in SHAPES
    }
    assert {name: mask.shape for name, mask in masks.items()} == SHAPES


def test_small_layers_are_denser_in_the_ratio_of_their_sides() -> None:
    found = erk_densities(SHAPES, 0.05)
    sides = {name: sum(shape) / np.prod(shape) for name, shape in SHAPES.items()}
    ratios = {name: found[name] / sides[name] for name in SHAPES}
    assert ratios["a"] == pytest.approx(ratios["b"]) == pytest.approx(ratios["c"])
