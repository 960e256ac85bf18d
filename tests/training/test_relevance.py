"""Relevance beside the formulas in loops, and what a pass leaves alone."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from fedcomp.data.preparation import IGNORED
from fedcomp.tensors import Array
from fedcomp.training.relevance import Averaged, Relevance, start
from fedcomp.training.relevance_rules import merged, operation
from fedcomp.training.settings import RelevanceSettings

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


def test_momentum_by_hand() -> None:
    averaged = Averaged(0.25)
    for first in (4.0, 8.0, 0.0):
        averaged.add({"a": torch.tensor([first, -first])})
    averaged.add({"b": torch.tensor([5.0])})
    assert averaged.weights["a"].tolist() == [1.75, -1.75]  # 4, then 7, then 1.75
    assert averaged.weights["b"].tolist() == [5.0]
