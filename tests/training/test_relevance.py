"""Relevance beside the formulas in loops, and what a pass leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import SqueezeExcitation

from fedcomp.models.base import read_tensors
from fedcomp.models.scaling import attach_scales
from fedcomp.tensors import Array
from fedcomp.training.batches import IGNORED
from fedcomp.training.clustered import ClusteredSteps
from fedcomp.training.relevance import Averaged, Found, Relevance, start
from fedcomp.training.relevance_rules import merged, operation
from fedcomp.training.settings import RelevanceSettings
from tests.common import equal

EPSILON = 1e-6
DEFAULT = RelevanceSettings()
INPUTS = torch.linspace(-1, 1, 2 * 3).reshape(2, 3, 1, 1).double()
TARGETS = torch.tensor([1, 0])
Composite = Literal["epsilon_plus_flat", "epsilon_flat", "alpha2_beta1_flat"]
COMPOSITES: tuple[Composite, ...] = ("epsilon_plus_flat", "epsilon_flat", "alpha2_beta1_flat")


def dense() -> nn.Sequential:
    """Return a net of one pixel, so that convolutions are matrices; their inputs have both signs.

    Its layers with weights are 0, 1, 3 and 6.
    """
    torch.manual_seed(3)
    net = nn.Sequential(
        *(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Tanh(), nn.ConvTranspose2d(5, 4, 1)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)),
    )
    return net.double()


def norms() -> nn.Sequential:
    """Return a net with batch norms, running statistics that are not trivial, and dropout."""
    torch.manual_seed(1)
    net = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)),
        *(nn.MaxPool2d(2), nn.Dropout(0.5), nn.Conv2d(6, 8, 3, groups=2), nn.BatchNorm2d(8)),
        *(nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)),
    )
    for part in net:
        if isinstance(part, nn.BatchNorm2d):
            for values in (part.weight.data, part.running_var):
                assert values is not None
                values.uniform_(0.5, 1.5)
            for values in (part.bias.data, part.running_mean):
                assert values is not None
                values.uniform_(-0.3, 0.3)
    return net


def images(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 3, 8, 8, generator=generator), torch.arange(count) % 4


def passed(module: nn.Module, settings: RelevanceSettings = DEFAULT) -> Found:
    inputs, targets = images()
    relevance = Relevance(module, inputs[:1], settings)
    return relevance.of(module, inputs, targets, "classification")


def away(z: float) -> float:
    return z + EPSILON if z >= 0 else z - EPSILON


def shares(rule: str, a: Array, row: Array, bias: float) -> list[float]:
    """Return which share of R_j each input of an output gets."""
    products = [float(x * w) for x, w in zip(a, row, strict=True)]
    if rule == "flat":
        return [1 / len(products)] * len(products)
    if rule == "epsilon":
        return [p / away(sum(products) + bias) for p in products]
    plus = sum(max(p, 0) for p in products) + max(bias, 0) + EPSILON
    minus = sum(min(p, 0) for p in products) + min(bias, 0) - EPSILON
    alpha, beta = {"plus": (1, 0), "alpha2_beta1": (2, 1)}[rule]
    return [alpha * max(p, 0) / plus - beta * min(p, 0) / minus for p in products]


@pytest.mark.parametrize("kind", ["logit", "ones", "probability"])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_relevances_are_those_of_the_formulas(
    composite: Composite, kind: Literal["logit", "ones", "probability"]
) -> None:
    """Brute force, over samples, outputs and inputs of each layer."""
    net = dense()
    rows = [
        net.get_parameter(f"{n}.weight").detach().numpy().reshape(o, -1)
        for n, o in ((0, 4), (1, 5), (3, 5), (6, 2))
    ]
    rows[2] = rows[2].T  # transposed
    biases = [net.get_parameter(f"{n}.bias").detach().numpy() for n in (0, 1, 3, 6)]
    conv = composite.removesuffix("_flat").removeprefix("epsilon_")
    rules = ["flat", conv, conv, "epsilon"]
    kept: list[Any] = [lambda z: z, np.tanh, lambda z: np.maximum(z, 0), None]

    expected = [np.zeros_like(row) for row in rows]
    heat = np.zeros((2, 3))
    total = 0.0
    for sample, target in enumerate(TARGETS.tolist()):
        a = [INPUTS[sample].numpy().ravel()]
        for row, bias, activate in zip(rows[:3], biases[:3], kept[:3], strict=True):
            a.append(activate(row @ a[-1] + bias))
        logits = rows[3] @ a[3] + biases[3]
        chances = np.exp(logits) / np.exp(logits).sum()
        r = np.zeros(2)
        r[target] = {"logit": logits, "ones": np.ones(2), "probability": chances}[kind][target] / 2
        total += r.sum()
        for at in (3, 2, 1, 0):
            below = np.zeros(len(a[at]))
            for j, (row, bias) in enumerate(zip(rows[at], biases[at], strict=True)):
                z = away(float(row @ a[at] + bias))
                for i, share in enumerate(shares(rules[at], a[at], row, float(bias))):
                    expected[at][j, i] += a[at][i] * row[i] * r[j] / z
                    below[i] += share * r[j]
            r = below
        heat[sample] = r

    relevance = Relevance(net, INPUTS, RelevanceSettings(composite, start=kind))
    found = relevance.of(net, INPUTS, TARGETS, "classification")
    assert list(found.weights) == [f"{n}.weight" for n in (0, 1, 3, 6)]
    expected[2] = expected[2].T
    for value, wanted in zip(found.weights.values(), expected, strict=True):
        np.testing.assert_allclose(value.numpy().reshape(wanted.shape), wanted, 1e-4, 1e-9)
    np.testing.assert_allclose(found.inputs.numpy()[..., 0, 0], heat, 1e-4, 1e-9)
    assert found.total == pytest.approx(total)


@pytest.mark.parametrize("kind", ["logit", "ones", "probability"])
@pytest.mark.parametrize("task", ["classification", "multilabel_2007", "segmentation"])
def test_what_the_outputs_begin_with(task: str, kind: str) -> None:
    outputs = torch.linspace(-2, 3, 2 * 3 * 4).reshape(2, 3, 2, 2)
    if task == "segmentation":
        targets = torch.tensor([[[0, IGNORED], [2, 1]], [[IGNORED, 2], [2, 0]]])
        marked = [(n, int(c), y, x) for (n, y, x), c in np.ndenumerate(targets) if c != IGNORED]
        count = 6
    else:
        outputs = outputs[..., 0, 0]
        if task == "classification":
            targets = torch.tensor([2, 0])
            marked = [(0, 2), (1, 0)]  # type: ignore[list-item]
        else:
            targets = torch.tensor([[1, 1, 0], [-1, 0, 1]])
            marked = [(0, 0), (0, 1), (1, 2)]  # type: ignore[list-item]
        count = 2
    power = np.exp(outputs.numpy())
    chances = power / (power + 1) if "multi" in task else power / power.sum(1, keepdims=True)
    values = {"logit": outputs.numpy(), "ones": np.ones_like(power), "probability": chances}[kind]
    expected = np.zeros_like(values)
    for at in marked:
        expected[at] = values[at] / count
    np.testing.assert_allclose(start(outputs, targets, task, kind).numpy(), expected, 1e-6)


def test_pixels_none_of_which_counts_begin_with_nothing() -> None:
    targets = torch.full((1, 2, 2), IGNORED, dtype=torch.uint8)
    assert not start(torch.ones(1, 3, 2, 2), targets, "segmentation", "ones").any()


def test_merged_norms_are_the_layer_that_computes_the_same() -> None:
    net = norms().eval()
    merged = norms().eval()
    for at in (0, 5):
        conv, norm = merged[at], merged[at + 1]
        fused = nn.utils.fuse_conv_bn_eval(conv, norm)  # type: ignore[arg-type, type-var]
        merged[at], merged[at + 1] = fused, nn.Identity()
    found, expected = passed(net), passed(merged)
    torch.testing.assert_close(found.inputs, expected.inputs)
    for name in ("0.weight", "5.weight", "10.weight"):
        torch.testing.assert_close(found.weights[name], expected.weights[name])
    other = passed(net, replace(DEFAULT, batch_norm="pass"))
    assert not torch.allclose(other.inputs, found.inputs, rtol=0.01)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_merged_weights_do_what_layer_and_norm_did(groups: int, affine: bool, bias: bool) -> None:
    torch.manual_seed(groups)
    pairs: list[tuple[nn.Module, nn.modules.batchnorm._BatchNorm, tuple[int, ...]]] = [
        (nn.Linear(4, 6, bias=bias), nn.BatchNorm1d(6, affine=affine), ()),
        (nn.Conv1d(4, 6, 3, groups=groups, bias=bias), nn.BatchNorm1d(6, affine=affine), (5,)),
        (
            nn.ConvTranspose2d(4, 6, 2, stride=2, groups=groups, bias=bias),
            nn.BatchNorm2d(6, affine=affine),
            (3, 3),
        ),
    ]
    for layer, norm, shape in pairs:
        x = torch.randn(8, 4, *shape)
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            if values is not None:
                values.data.uniform_(0.5, 2)
        found = operation(layer)(x, *merged(layer, norm))
        torch.testing.assert_close(found, norm.eval()(layer(x)), rtol=1e-4, atol=1e-5)


class Branches(nn.Module):
    """Norms that cannot be merged, or only when told so, and steps in place."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        y = self.conv(x)
        if self.kind == "in place":
            y += x
        z = self.norm(y)
        z = self.norm(z) if self.kind == "twice" else z
        z = z + y if self.kind == "used" else z
        z += x
        found: torch.Tensor = self.head(torch.relu_(z).mean((2, 3)))
        return found


@pytest.mark.parametrize("kind", ["plain", "in place", "twice", "used"])
def test_a_norm_is_merged_where_nothing_comes_between(kind: str) -> None:
    torch.manual_seed(2)
    net = Branches(kind)
    net.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    net.norm.running_mean.uniform_(0.5, 2)  # type: ignore[union-attr]
    found, other = passed(net), passed(net, replace(DEFAULT, batch_norm="pass"))
    same = all(torch.equal(value, other.weights[name]) for name, value in found.weights.items())
    assert same == (kind != "plain")
    assert found.total == pytest.approx(other.total, rel=1e-5)


def test_a_pass_changes_nothing_and_calls_no_hook_before() -> None:
    net = norms()
    net[0].weight.grad = torch.ones_like(net[0].weight)  # type: ignore[arg-type]
    net[5].requires_grad_(False)
    net.register_forward_pre_hook(lambda *_: pytest.fail("called"))
    before = read_tensors(net)
    first, second = passed(net), passed(net)
    assert equal(before, read_tensors(net))
    assert all(part.training for part in net.modules())
    assert [p.requires_grad for p in net[5].parameters()] == [False, False]
    grads = {name for name, p in net.named_parameters() if p.grad is not None}
    assert grads == {"0.weight"}
    assert bool((net[0].weight.grad == 1).all())
    assert list(first.weights) == ["0.weight", "5.weight", "10.weight"]
    for name, value in first.weights.items():
        assert not value.requires_grad
        assert torch.equal(value, second.weights[name])
    assert torch.equal(first.inputs, second.inputs)


def test_the_values_of_the_moment_count_within_clustered_steps() -> None:
    net = norms()
    inputs, targets = images()
    relevance = Relevance(net, inputs, DEFAULT)
    whole = relevance.of(net, inputs, targets, "classification")
    with ClusteredSteps(net, ["5.weight", "10.weight"], 3) as steps:
        other = Relevance(net, inputs, DEFAULT)
        net(inputs)
        clustered = norms()
        clustered.load_state_dict(net.state_dict())
        assert len(net.get_parameter("5.weight").unique()) == 3
        found = [r.of(net, inputs, targets, "classification") for r in (relevance, other)]
        steps.before_step()
        back = relevance.of(net, inputs, targets, "classification")
    expected = passed(clustered)
    net.load_state_dict(norms().state_dict())
    assert not torch.equal(whole.inputs, expected.inputs)
    for value in found:
        assert torch.equal(value.inputs, expected.inputs)
        assert torch.equal(value.weights["5.weight"], expected.weights["5.weight"])
    assert back.weights["5.weight"].unique().numel() > 3 * 8


def test_scale_factors_leave_the_relevance_of_weights_alone() -> None:
    """R_w is that of s·w, to which w owes it all."""
    net, plain = norms(), norms()
    attach_scales(net)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("scale"):
                parameter.uniform_(0.5, 2)
        for at in (0, 5, 10):
            plain[at].weight.copy_(net[at].weight)  # type: ignore[operator]
    found, expected = passed(net), passed(plain)
    for at in (0, 5, 10):
        value = found.weights[f"{at}.parametrizations.weight.original"]
        torch.testing.assert_close(value, expected.weights[f"{at}.weight"])


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("fill", [0.0, 1.0, -3.0])
def test_constant_inputs_and_dead_layers_give_finite_relevances(
    composite: Composite, fill: float
) -> None:
    net = norms()
    net[5].weight.data[0] = 0  # type: ignore[index]
    for settings in (RelevanceSettings(composite), RelevanceSettings(composite, "pass", "ones")):
        relevance = Relevance(net, images()[0], settings)
        inputs = torch.full((2, 3, 8, 8), fill)
        found = relevance.of(net, inputs, torch.tensor([0, 3]), "classification")
        for value in (*found.weights.values(), found.inputs):
            assert value.isfinite().all()


def test_gates_count_as_constants() -> None:
    """A net whose gate gives 1 for what ever comes finds the same as one without it."""
    torch.manual_seed(0)
    gate = SqueezeExcitation(4, 2)
    gate.fc2.weight.data.zero_()
    gate.fc2.bias.data.fill_(100)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)]
    plain, gated = nn.Sequential(*layers), nn.Sequential(*layers[:2], gate, *layers[2:])
    expected, found = passed(plain), passed(gated)
    assert torch.equal(found.inputs, expected.inputs)
    values = list(found.weights.values())
    for value, wanted in zip(values, expected.weights.values(), strict=True):
        assert torch.equal(value, wanted)


def test_momentum_by_hand() -> None:
    averaged = Averaged(0.25)
    for first in (4.0, 8.0, 0.0):
        averaged.add({"a": torch.tensor([first, -first])})
    averaged.add({"b": torch.tensor([5.0])})
    assert averaged.weights["a"].tolist() == [1.75, -1.75]  # 4, then 7, then 1.75
    assert averaged.weights["b"].tolist() == [5.0]
