"""Steps inside a subspace beside a dense projection matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedcomp.codecs import buckets
from fedcomp.training.subspace import Projection

INPUTS = torch.linspace(-1, 1, 24).reshape(6, 4)
TARGETS = torch.tensor([0, 1, 1, 0, 2, 2])
PACES = {"0.weight": 0.3, "0.bias": 1.0, "2.weight": 0.25}


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def drawn(module: nn.Module) -> dict[str, buckets.Buckets]:
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    return {name: buckets.draw(sizes[name], pace, 7, name) for name, pace in PACES.items()}


def matrix(columns: buckets.Buckets, gain: float) -> torch.Tensor:
    """Return A·G·Aᵀ, whole."""
    at = np.arange(len(columns.signs))
    basis = np.zeros((len(at), columns.count))
    basis[at, at % columns.count] = columns.signs / np.sqrt(columns.sizes[at % columns.count])
    return torch.from_numpy(basis @ np.diag(columns.sizes**gain) @ basis.T)


def backward(module: nn.Module) -> None:
    torch.autograd.backward(nn.functional.cross_entropy(module(INPUTS), TARGETS))


@pytest.mark.parametrize("gain", [0.0, 0.5, 0.67, 1.0])
def test_gradients_become_their_projections(gain: float) -> None:
    module, plain = net(), net()
    columns = drawn(module)
    projection = Projection(module, columns, gain)
    backward(module)
    backward(plain)
    projection.before_step()
    for name, parameter in plain.named_parameters():
        (found, given) = (dict(module.named_parameters())[name].grad, parameter.grad)
        assert found is not None
        assert given is not None
        if name == "2.bias":
            assert torch.equal(found, given)
            continue
        wanted = matrix(columns[name], gain) @ given.double().reshape(-1)
        torch.testing.assert_close(found.double().reshape(-1), wanted, rtol=1e-5, atol=1e-7)
        if name == "0.bias":
            assert torch.equal(found, given), "each weight is alone"


def test_without_gain_a_projection_is_its_own() -> None:
    module = net()
    projection = Projection(module, drawn(module), 0.0)
    backward(module)
    projection.before_step()
    once = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    projection.before_step()
    for before, parameter in zip(once, module.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, before)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_steps_stay_inside_with_any_optimiser(optimizer: str) -> None:
    module = net()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    columns = drawn(module)
    projection = Projection(module, columns, 0.67)
    steps: torch.optim.Optimizer = (
        torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.Adam(module.parameters(), 0.01)
    )
    for _ in range(5):
        steps.zero_grad()
        backward(module)
        projection.before_step()
        steps.step()
    for name, found in columns.items():
        moved = (dict(module.named_parameters())[name].detach() - before[name]).numpy()
        inside = found.spread(found.project(moved)).reshape(moved.shape)
        assert np.abs(moved).max() > 1e-3
        np.testing.assert_allclose(inside, moved, atol=1e-6)


def test_parameters_without_gradient_stay_without() -> None:
    module = net()
    projection = Projection(module, drawn(module), 0.67)
    module[0].requires_grad_(False)
    backward(module)
    projection.before_step()
    assert module[0].weight.grad is None
    assert module[2].weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_gradients_keep_their_type(dtype: torch.dtype) -> None:
    module = net().to(dtype)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    Projection(module, drawn(module), 0.67).before_step()
    assert all(p.grad is not None and p.grad.dtype == dtype for p in module.parameters())
