"""Relevance beside that of zennit and captum, where they are installed."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

from fedcomp.training import relevance_rules
from fedcomp.training.relevance import Relevance, start
from fedcomp.training.settings import RelevanceSettings

BOTH: Literal["alpha2_beta1_flat"] = "alpha2_beta1_flat"
EPSILON = 1e-9
TARGETS = torch.tensor([0, 1, 2, 3])


def plain() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(), nn.AvgPool2d(2)),
        *(nn.ConvTranspose2d(8, 6, 2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(6 * 16, 12), nn.ReLU(), nn.Linear(12, 4)),
    )


def residual() -> nn.Module:
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4, width_per_group=64)


def drawn(build: Any, side: int) -> tuple[nn.Module, torch.Tensor]:
    """Return a net with running statistics and inputs."""
    torch.manual_seed(6)
    net = build()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values in (part.weight.data, part.running_var):
                values.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            for values in (part.bias.data, part.running_mean):
                values.uniform_(-0.3, 0.3)  # type: ignore[union-attr]
    return net.double().eval(), torch.randn(4, 3, side, side).double()


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert expected.abs().max() > 0


@pytest.mark.parametrize("composite", ["plus", "alpha2_beta1"])
@pytest.mark.parametrize("build", [plain, residual])
def test_zennit_finds_the_same(build: Any, composite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R at the outputs of layers is zennit's; of it R_w by the formula, with merged weights.

    Zennit has an epsilon at sums and averages, too, whose terms can nearly cancel out: so it is
    small here.
    """
    pytest.importorskip("zennit")
    from zennit.canonizers import SequentialMergeBatchNorm  # type: ignore[import-not-found]
    from zennit.composites import (  # type: ignore[import-not-found]
        EpsilonAlpha2Beta1Flat,
        EpsilonPlusFlat,
    )
    from zennit.torchvision import ResNetCanonizer  # type: ignore[import-not-found]

    net, inputs = drawn(build, 16 if build is plain else 32)
    monkeypatch.setattr(relevance_rules, "EPSILON", EPSILON)
    settings = RelevanceSettings() if composite == "plus" else RelevanceSettings(BOTH)
    found = Relevance(net, inputs, settings).of(net, inputs, TARGETS, "classification")

    layers = {
        name: part
        for name, part in net.named_modules()
        if isinstance(part, nn.Linear | nn.modules.conv._ConvNd)
    }
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def note(name: str, given: torch.Tensor, output: torch.Tensor) -> None:
        output.retain_grad()
        seen[name] = given.detach(), output

    for name, part in layers.items():
        part.register_forward_hook(lambda _, given, output, name=name: note(name, given[0], output))
    kind = EpsilonPlusFlat if composite == "plus" else EpsilonAlpha2Beta1Flat
    canonise = [SequentialMergeBatchNorm() if build is plain else ResNetCanonizer()]
    source = inputs.clone().requires_grad_()
    with kind(EPSILON, EPSILON, canonizers=canonise).context(net) as changed:
        outputs = changed(source)
        torch.autograd.backward(
            outputs, start(outputs.detach(), TARGETS, "classification", "logit")
        )
        expected = {name: _weights(layers[name], *seen[name]) for name in layers}
    assert source.grad is not None
    close(found.inputs, source.grad)
    assert {f"{name}.weight" for name in expected} == found.weights.keys()
    for name, value in expected.items():
        close(found.weights[f"{name}.weight"], value)


def _weights(layer: Any, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    weight = layer.weight.detach().clone().requires_grad_()
    with torch.enable_grad():
        if isinstance(layer, nn.Linear):
            z = F.linear(x, weight, layer.bias)
        elif isinstance(layer, nn.ConvTranspose2d):
            z = F.conv_transpose2d(x, weight, layer.bias, layer.stride)
        else:
            z = F.conv2d(x, weight, layer.bias, layer.stride, layer.padding)
    assert output.grad is not None
    scaled = output.grad / relevance_rules.stabilised(z)
    (gradient,) = torch.autograd.grad(z, weight, scaled.detach())
    return gradient * weight.detach()


def test_captum_finds_the_same_under_epsilon() -> None:
    """A first layer of ones, each with its own input and output, makes flat the identity."""
    attr = pytest.importorskip("captum.attr", exc_type=ImportError)

    class Plain(nn.Sequential):
        def __init__(self) -> None:
            layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            super().__init__(*layers, nn.Conv2d(6, 10, 4), nn.ReLU(), nn.Conv2d(10, 4, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = super().forward(x)
            return found.flatten(1)  # captum knows no layer that does

    net, inputs = drawn(Plain, 8)
    one = nn.Conv2d(3, 3, 1, groups=3, bias=False).double()
    nn.init.ones_(one.weight)
    longer = nn.Sequential(one, net)
    settings = RelevanceSettings("epsilon_flat")
    found = Relevance(longer, inputs, settings).of(longer, inputs, TARGETS, "classification")
    expected = attr.LRP(net).attribute(inputs.requires_grad_(), target=TARGETS)
    close(found.inputs, expected.detach() / len(TARGETS))
