"""Steps at w ⊙ m beside twins that spell the formulas out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from fedcomp.data.base import Samples
from fedcomp.training.loop import train
from fedcomp.training.masked import MaskedSteps
from fedcomp.training.settings import TrainSettings

if TYPE_CHECKING:
    from fedcomp.training.pruning import Masks

INPUTS = torch.linspace(-1, 1, 12).reshape(4, 3)
TARGETS = torch.tensor([0, 1, 1, 0])


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


def masks(share: float = 0.5) -> Masks:
    rng = np.random.default_rng(4)
    named = dict(net().named_parameters())
    return {n: rng.random(named[n].shape) < share for n in ("0.weight", "2.weight")}


def trained(
    masks: Masks,
    *,
    dense: bool,
    penalty: float = 0.0,
    steps: int = 5,
    momentum: float = 0.0,
    decay: float = 0.0,
) -> dict[str, torch.Tensor]:
    """Return the parameters after some steps with the class under test."""
    module = net()
    optimizer = torch.optim.SGD(module.parameters(), 0.5, momentum, weight_decay=decay)
    with MaskedSteps(module, masks, dense=dense, penalties=dict.fromkeys(masks, penalty)) as masked:
        for _ in range(steps):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(module(INPUTS), TARGETS))
            masked.before_step()
            optimizer.step()
    return {name: value.detach() for name, value in module.named_parameters()}


def twin(
    masks: Masks, *, dense: bool, penalty: float = 0.0, steps: int = 5, decay: float = 0.0
) -> dict[str, torch.Tensor]:
    """Return them by the formulas of FedDIP: g at w̃ = w ⊙ m, w ← w − lr (g + decay · w)."""
    whole = {n: p.detach().clone() for n, p in net().named_parameters()}
    kept = {n: torch.from_numpy(m).float() for n, m in masks.items()}
    for _ in range(steps):
        lossy = {n: w * kept[n] if n in kept else w for n, w in whole.items()}
        lossy = {n: w.requires_grad_() for n, w in lossy.items()}
        loss = nn.functional.cross_entropy(
            torch.func.functional_call(net(), lossy, (INPUTS,)), TARGETS
        )
        loss = loss + penalty * sum(lossy[n].square().sum().sqrt() for n in kept)
        gradients = dict(zip(lossy, torch.autograd.grad(loss, list(lossy.values())), strict=True))
        for name, value in whole.items():
            step = gradients[name] + decay * value
            if not dense and name in kept:
                step = step * kept[name]
            whole[name] = (value - 0.5 * step).detach()
    return whole


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(("penalty", "decay"), [(0.0, 0.0), (0.03, 0.0), (0.0, 0.1), (0.02, 0.01)])
def test_steps_are_those_of_the_formula(dense: bool, penalty: float, decay: float) -> None:
    found = trained(masks(), dense=dense, penalty=penalty, decay=decay)
    expected = twin(masks(), dense=dense, penalty=penalty, decay=decay)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-6, rtol=0)


def test_feddip_lets_gradients_reach_masked_weights() -> None:
    start = dict(net().named_parameters())
    first = {"0.weight": masks()["0.weight"]}
    moved = trained(first, dense=True, steps=1)["0.weight"]
    still = trained(first, dense=False, steps=1)["0.weight"]
    out = ~torch.from_numpy(first["0.weight"])
    assert (moved != start["0.weight"])[out].all()
    assert torch.equal(still[out], start["0.weight"][out])


def test_what_is_kept_moves_alike_whether_the_rest_moves_or_not() -> None:
    """Masked weights are not in the forward pass: FedDIP with nested masks is masked training."""
    for momentum, decay in ((0.9, 0.0), (0.0, 0.01)):
        dense, still = (
            trained(masks(), dense=both, penalty=0.01, momentum=momentum, decay=decay)
            for both in (True, False)
        )
        for name, mask in masks().items():
            kept = torch.from_numpy(mask)
            assert torch.equal(dense[name][kept], still[name][kept])
        assert torch.equal(dense["0.bias"], still["0.bias"])


def test_the_whole_weights_are_back_whatever_happens() -> None:
    module = net()
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    with MaskedSteps(module, masks()):
        module(INPUTS)
        assert not torch.equal(dict(module.named_parameters())["0.weight"], before["0.weight"])
        module(INPUTS)  # a second pass does not take masked weights for whole ones
    for name, value in module.named_parameters():
        assert torch.equal(value, before[name])
    assert not module._forward_pre_hooks


@pytest.mark.parametrize("dense", [True, False])
def test_the_pull_of_fedprox_is_that_of_the_whole_weights(dense: bool) -> None:
    """20 steps at loss 0 towards the start: nothing moves, masked or not."""
    module = nn.Sequential(nn.Linear(3, 2, bias=False))
    before = dict(module.named_parameters())["0.weight"].detach().clone()
    data = Samples(np.zeros((8, 3), np.float32), np.zeros(8, np.int64))
    settings = TrainSettings(steps=20, momentum=0.0, device="cpu")
    mask = np.array([[True, False, True], [False, True, False]])
    with MaskedSteps(module, {"0.weight": mask}, dense=dense) as steps:
        train(
            module,
            data,
            settings,
            task="classification",
            lr=0.1,
            proximal_mu=1.0,
            rng=np.random.default_rng(1),
            before_step=steps.before_step,
        )
    assert torch.equal(dict(module.named_parameters())["0.weight"], before)


def test_a_shared_weight_is_masked_once() -> None:
    first, last = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    last.weight = first.weight
    module = nn.Sequential(first, nn.Tanh(), last)
    before = first.weight.detach().clone()
    mask = np.random.default_rng(1).random((3, 3)) < 0.5
    with MaskedSteps(module, {"0.weight": mask, "2.weight": mask}) as steps:
        torch.autograd.backward(module(INPUTS).sum())
        steps.before_step()
        assert torch.equal(first.weight, before)


def test_a_layer_without_weights_has_no_penalty() -> None:
    nothing = {name: np.zeros_like(mask) for name, mask in masks().items()}
    found = trained(nothing, dense=True, penalty=0.1, steps=2)
    assert all(torch.isfinite(value).all() for value in found.values())
