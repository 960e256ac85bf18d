"""The score of the representation: what travels of embeddings, and what E becomes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.data.base import Samples
from fedcomp.models import MODELS
from fedcomp.tensors import Array, Tensors
from fedcomp.training import score
from fedcomp.training.embeddings import embeddings, width_of
from fedcomp.training.loop import evaluate
from fedcomp.training.representation import (
    PROJECTED,
    effective_rank,
    gram,
    normalised,
    triangle,
    triangle_bytes,
)
from fedcomp.training.settings import TrainSettings


def rank_of(raw: Array) -> float:
    """Return E by singular values, as RankMe has it."""
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    sigma = np.linalg.svd(unit, compute_uv=False)
    p = sigma / sigma.sum()
    p = p[p > 1e-12]
    return float(np.exp(-(p * np.log(p)).sum()))


def made(seed: int, rows: int, columns: int, decay: float = 0.0) -> Array:
    """Return rows whose directions have sizes of 1 / k ** decay, as those of nets have."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(columns, columns)))[0]
    sizes = np.arange(1, columns + 1) ** -decay
    return np.asarray(rng.normal(size=(rows, columns)) * sizes @ turn)


def scored(sides: list[Tensors], width: int) -> float:
    found, useless = score.total(sides, width)
    assert found is not None
    assert useless == 0
    return effective_rank(found)


@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 12))
@settings(deadline=None)
def test_gram_and_raw_embeddings_give_the_same_rank(seed: int, rows: int, columns: int) -> None:
    raw = np.random.default_rng(seed).normal(size=(rows, columns)) + 0.3
    parts = [part for part in (raw[: rows // 2], raw[rows // 2 :]) if len(part)]
    for sent in ("gram", "embeddings"):
        found = scored([score.pack(p, sent, 10**6, 1) for p in parts], columns)
        assert found == pytest.approx(rank_of(raw), rel=2e-3, abs=2e-3)
        assert 1 - 1e-6 <= found <= min(rows, columns) + 1e-6


@pytest.mark.parametrize("columns", [16, 64])
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clients", [1, 8])
def test_16_bits_of_the_triangle_move_the_rank_by_next_to_nothing(
    columns: int, decay: float, clients: int
) -> None:
    raw = made(1, 400, columns, decay)
    sides = [score.pack(part, "gram", 10**6, 1) for part in np.array_split(raw, clients)]
    assert all(side["gram"].dtype == np.float16 for side in sides)
    assert all(side["gram"].nbytes <= triangle_bytes(columns) for side in sides)
    assert scored(sides, columns) == pytest.approx(rank_of(raw), abs=2e-3)


def test_16_bits_of_the_gram_matrix_itself_would_move_it_more() -> None:
    """Roots of the small eigenvalues of a rounded G are noise."""
    raw = made(1, 1500, 256, 1.5)
    unit = normalised(raw)
    rounded = np.asarray(unit.T @ unit / len(unit), np.float16)
    exact = rank_of(raw)
    found = scored([score.pack(raw, "gram", 10**6, 1)], 256)
    assert abs(found - exact) < 0.01 * abs(effective_rank(rounded) - exact)


def test_the_triangle_of_64_columns_takes_4_kilobytes() -> None:
    side = score.pack(made(1, 100, 64), "gram", 32_768, 1)
    assert side["gram"].nbytes == triangle_bytes(64) == 4160
    few = score.pack(made(1, 10, 64), "gram", 32_768, 1)
    assert few["gram"].nbytes == 2 * (64 * 10 - 45)


@pytest.mark.parametrize(("decay", "rank", "error"), [(3.0, 3.5, 0.08), (2.0, 9.0, 0.22)])
def test_projection_finds_small_ranks(decay: float, rank: float, error: float) -> None:
    raw = made(3, 500, 512, decay)
    sides = [score.pack(part, "gram", 32_768, 7) for part in np.array_split(raw, 5)]
    assert all(side["projected"].nbytes <= triangle_bytes(PROJECTED) for side in sides)
    assert rank_of(raw) == pytest.approx(rank, abs=0.05)
    assert scored(sides, 512) == pytest.approx(rank_of(raw), rel=error)


def test_projection_never_takes_more_bytes() -> None:
    for columns in (16, 64, 65, 200):
        side = score.pack(made(3, 500, columns), "gram", 0, 7)
        (values,) = side.values()
        assert values.nbytes <= min(triangle_bytes(columns), triangle_bytes(PROJECTED))


def test_projected_ranks_keep_their_order_and_their_bound() -> None:
    ranks = []
    for decay in (3.0, 2.0, 1.5, 1.0, 0.5, 0.0):
        sides = [score.pack(made(3, 500, 512, decay), "gram", 0, 7)]
        ranks.append(scored(sides, 512))
    assert ranks == sorted(ranks)
    assert ranks[-1] <= PROJECTED


def test_ranks_of_orthonormal_rows_of_one_direction_and_of_nothing() -> None:
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0]
    for rows, rank in ((7 * basis, 16), (np.outer(np.arange(1, 9), np.arange(1, 17)), 1)):
        packed = score.pack(rows, "gram", 10**6, 1)
        assert scored([packed], 16) == pytest.approx(rank, abs=2e-3)
    nothing = score.pack(np.zeros((3, 16)), "gram", 10**6, 1)
    assert scored([nothing], 16) == 0


@pytest.mark.parametrize(
    "side",
    [
        {},
        {"gram": np.ones(5, np.float16)},
        {"gram": np.ones((3, 4), np.float16)},
        {"gram": np.full(10, np.nan, np.float16)},
        {"gram": np.full(10, np.inf, np.float16)},
        {"gram": np.full(10, 1e200)},
        {"projected": np.ones(PROJECTED - 1, np.float16)},
        {"gram": np.empty(0, np.float16)},
        {"projected": np.ones(10, np.float16)},
        {"embeddings": np.ones((5, 3), np.float32)},
        {"embeddings": np.ones(4, np.float32)},
        {"embeddings": np.full((5, 4), np.inf, np.float32)},
        {"other": np.ones((5, 4), np.float32)},
    ],
)
def test_what_nobody_sends_is_noticed(side: dict[str, Any]) -> None:
    assert score.total([side], 4) == (None, 1)
    good = score.pack(made(1, 9, 4), "gram", 10**6, 1)
    found, useless = score.total([side, good, good], 4)
    assert useless == 1
    assert found is not None
    assert effective_rank(found) == pytest.approx(rank_of(made(1, 9, 4)), abs=2e-3)


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_triangle_is_the_gram_matrix(rows: int, columns: int) -> None:
    unit = normalised(made(rows, rows, columns))
    found = gram(triangle(unit), columns)
    assert found is not None
    assert np.allclose(found, unit.T @ unit, atol=4e-3)


@pytest.mark.parametrize(
    ("model", "shape", "width"),
    [
        ("small_cnn", (1, 8, 8), 64),
        ("resnet20", (3, 16, 16), 64),
        ("mlp", (1, 8, 8), 64),
        ("small_unet", (3, 16, 16), 8),
    ],
)
def test_embeddings_are_what_the_last_layer_sees(
    model: str, shape: tuple[int, ...], width: int
) -> None:
    module = MODELS.get(model)().seeded(shape, 4, 0)
    inputs = np.random.default_rng(2).normal(size=(7, *shape)).astype(np.float32)
    pixels = (7, *shape[1:]) if model == "small_unet" else (7,)
    task = "segmentation" if model == "small_unet" else "classification"
    with embeddings(module) as rows:
        samples = Samples(inputs, np.zeros(pixels, np.int64))
        evaluate(module, samples, TrainSettings(), task=task)
    found = np.concatenate(rows)
    assert found.shape == (7, width) == (7, width_of(module))
    *_, last = (m for m in module.modules() if list(m.parameters(recurse=False)))
    weight, bias = (value.detach().numpy() for value in last.parameters())
    with torch.no_grad():
        outputs = module.eval()(torch.from_numpy(inputs)).numpy()
    means = outputs.mean(axis=tuple(range(2, outputs.ndim)))
    assert np.allclose(found @ weight.reshape(4, width).T + bias, means, atol=1e-4)
    again = len(rows)
    module(torch.from_numpy(inputs))
    assert len(rows) == again, "the hook stayed"
