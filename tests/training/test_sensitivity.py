from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedcomp.data.base import Samples
from fedcomp.data.preparation import Augment, Preparation
from fedcomp.models.base import read_tensors
from fedcomp.models.scaling import attach_scales
from fedcomp.tensors import Array, Tensors
from fedcomp.training import loop
from fedcomp.training.pruning import magnitude_masks
from fedcomp.training.sensitivity import sensitivity
from fedcomp.training.settings import TrainSettings
from tests.common import equal

SETTINGS = TrainSettings(batch_size=8, momentum=0.0, weight_decay=0.1, device="cpu")
ALL = replace(SETTINGS, batch_size=64)


def net() -> nn.Sequential:
    """Return a net with running statistics and drawn zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)),
            *(nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 3)),
        )


def linear() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 3))


def images(count: int = 40) -> Samples:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(count, 1, 6, 6)).astype(np.float32)
    moved = Preparation(augment=Augment(crop=1, flip=True))
    return Samples(inputs, rng.integers(0, 3, count), moved)


def vectors(count: int = 20) -> Samples:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(count, 5)).astype(np.float32)
    return Samples(inputs, rng.integers(0, 3, count))


def scored(module: nn.Module, samples: Samples, **options: Any) -> Tensors:
    names = [name for name, p in module.named_parameters() if p.ndim > 1]
    words: Any = {"settings": SETTINGS, "task": "classification", "names": names, "seed": 3}
    words |= options
    rng = np.random.default_rng(words.pop("seed"))
    return sensitivity(module, samples, rng=rng, **words)


def total(scores: Tensors) -> float:
    return float(sum(value.sum(dtype=np.float64) for value in scores.values()))


def shares(weight: Array, gradient: Array) -> Array:
    products = np.abs(weight * gradient)
    return np.asarray(products / products.sum())


def test_cross_entropy_of_a_linear_model_by_hand() -> None:
    """∂L/∂W = (softmax(Wx + b) − onehot)ᵀ x / n."""
    module, data = linear(), vectors()
    weight, bias = (value.astype(np.float64) for value in read_tensors(module).values())
    powers = np.exp(data.inputs @ weight.T + bias)
    errors = powers / powers.sum(axis=1, keepdims=True) - np.eye(3)[data.targets]
    found = scored(module, data, settings=ALL)
    assert list(found) == ["0.weight"]
    expected = shares(weight, errors.T @ data.inputs)
    np.testing.assert_allclose(found["0.weight"], expected, rtol=1e-4)


def test_squared_error_of_a_linear_model_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """∂L/∂W = 2 (Wx + b − y)ᵀ x / n and ∂L/∂b = 2 Σ (Wx + b − y) / n, scored together."""

    class Squared:
        @staticmethod
        def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return (outputs - targets[:, None]).square().sum(dim=1).mean()

    monkeypatch.setitem(loop.TASKS, "squared", Squared())
    module, data = linear(), vectors()
    weight, bias = (value.astype(np.float64) for value in read_tensors(module).values())
    errors = data.inputs @ weight.T + bias - data.targets[:, None]
    gradient = np.column_stack([errors.T @ data.inputs, errors.sum(axis=0)])
    expected = shares(np.column_stack([weight, bias]), gradient)
    found = scored(module, data, settings=ALL, task="squared", names=["0.bias", "0.weight"])
    assert list(found) == ["0.bias", "0.weight"]
    np.testing.assert_allclose(found["0.weight"], expected[:, :-1], rtol=1e-4)
    np.testing.assert_allclose(found["0.bias"], expected[:, -1], rtol=1e-4)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_batch_is_the_first_that_training_sees(scaled: bool, channels_last: bool) -> None:
    """A step of SGD goes from w to w − lr · ∂L/∂w: augmented, with dropout and batch norm."""
    settings = replace(SETTINGS, weight_decay=0.0, channels_last=channels_last)
    module, trained = net(), net()
    for one in (module, trained):
        if scaled:
            attach_scales(one)
    found = scored(module, images(), settings=settings)
    before = read_tensors(trained)
    words: Any = {"task": "classification", "lr": 1.0, "proximal_mu": 0.0}
    one_step = replace(settings, steps=1)
    loop.train(trained, images(), one_step, rng=np.random.default_rng(3), **words)
    after = read_tensors(trained)
    products = {n: np.abs(before[n] * (before[n] - after[n])) for n in found}
    assert len(found) == (6 if scaled else 3)
    assert total(found) == pytest.approx(1)
    for name, value in found.items():
        expected = products[name] / total(products)
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-7)
        assert value.dtype == np.float32
        assert value.flags.c_contiguous


def test_the_module_stays_as_it_is() -> None:
    module = net()
    module(torch.rand(4, 1, 6, 6)).sum().backward()
    module[4].requires_grad_(False)
    module[1].eval()
    before = read_tensors(module)
    gradients = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    flags = [part.training for part in module.modules()]
    assert before["1.running_mean"].any()
    found = scored(module, images())
    assert equal(read_tensors(module), before)
    assert [part.training for part in module.modules()] == flags
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradients[name])
        assert parameter.requires_grad != name.startswith("4.")
    assert not found["4.weight"].any()  # its old gradients do not count
    assert total(found) == pytest.approx(1)


def test_scores_follow_from_the_generator_alone() -> None:
    first = scored(net(), images())
    torch.rand(3)
    assert equal(first, scored(net(), images()))
    assert not equal(first, scored(net(), images(), seed=4))


@pytest.mark.parametrize("factor", [0.0, 1e38, np.nan])
def test_where_gradients_say_nothing_all_score_the_same(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Steep:
        @staticmethod
        def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return factor * 1e3 * outputs.sum()

    monkeypatch.setitem(loop.TASKS, "steep", Steep())
    found = scored(linear(), vectors(), task="steep")
    assert np.array_equal(found["0.weight"], np.full((3, 5), 1 / 15, np.float32))


def test_masks_of_scores_keep_the_most_sensitive() -> None:
    found = scored(net(), images())
    masks, spared = magnitude_masks(found, 0.75)
    assert spared == []
    kept = np.concatenate([found[name][mask] for name, mask in masks.items()])
    gone = np.concatenate([found[name][~mask] for name, mask in masks.items()])
    assert len(gone) == round(0.75 * (len(kept) + len(gone)))
    assert kept.min() >= gone.max()


def test_a_name_that_is_no_parameter() -> None:
    with pytest.raises(KeyError, match=r"1\.running_mean"):
        scored(net(), images(), names=["1.running_mean"])
