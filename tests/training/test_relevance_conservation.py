"""Without biases no relevance comes or goes between outputs, layers and inputs."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from fedcomp.models import MODELS
from fedcomp.models.resnet_cifar_module import ResNetModule
from fedcomp.training import relevance_rules
from fedcomp.training.relevance import Found, Relevance
from fedcomp.training.settings import RelevanceSettings

COLOUR, WORD = (3, 32, 32), (1, 40, 49)
HEAVY = ("resnet18_cifar", "resnet34", "resnet50_cifar", "vgg16", "vgg16_cifar")
"""Of the same parts as others."""
MODELS_HERE = [name for name in MODELS.names() if name not in HEAVY]
LIGHT = ("ds_cnn", "lenet5", "mlp", "resnet20", "small_cnn", "small_unet", "vgg11s")
BOTH_SIGNS = [name for name in LIGHT if name not in ("ds_cnn", "small_unet")]
Composite = Literal["epsilon_plus_flat", "epsilon_flat", "alpha2_beta1_flat"]
Norm = Literal["merge", "pass"]
PLUS, PLAIN, BOTH = "epsilon_plus_flat", "epsilon_flat", "alpha2_beta1_flat"
CASES = [
    *((name, PLUS, "merge") for name in MODELS_HERE),
    *((name, PLAIN, "pass") for name in (*LIGHT, "mobilenet_v2", "resnet18")),
    *((name, PLUS, "pass") for name in LIGHT),
    *((name, PLAIN, "merge") for name in LIGHT),
    *((name, BOTH, "pass") for name in BOTH_SIGNS),  # of layers with products of one sign alone
    *((name, BOTH, "merge") for name in BOTH_SIGNS),  # it would keep 2 R, or −R
]


@pytest.fixture(autouse=True)
def _small_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What epsilon absorbs is no error; here it is next to nothing."""
    monkeypatch.setattr(relevance_rules, "EPSILON", 1e-12)


def prepared(net: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """Take biases out of a net, and scale its layers and norms so that no features vanish or grow.

    Where no ReLU takes out the negative outputs of a layer, none of its products may add to one:
    z+ has nobody to give their relevance to. Logits and what is upsampled are positive for that.
    """
    generator = torch.Generator().manual_seed(5)
    hooks = []

    def scale(part: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        size = output.square().mean().sqrt()
        part.weight.div_(size)
        return output / size

    def count(norm: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        others = [axis for axis in range(inputs[0].ndim) if axis != 1]
        norm.running_var.copy_(inputs[0].square().mean(others))

    with torch.no_grad():
        for name, part in net.named_modules():
            if getattr(part, "bias", None) is not None:
                part.bias.zero_()  # type: ignore[operator, union-attr]
            if name.startswith(("up", "head")) and hasattr(part, "weight"):
                part.weight.abs_()  # type: ignore[operator, union-attr]
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.weight.uniform_(0.5, 1.5, generator=generator)
                hooks.append(part.register_forward_pre_hook(count))
            elif isinstance(part, nn.Linear | nn.modules.conv._ConvNd):
                hooks.append(part.register_forward_hook(scale))
        net.double().eval()(inputs)
    for hook in hooks:
        hook.remove()
    return net


def inputs_of(shape: tuple[int, ...], count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def found_in(net: nn.Module, inputs: torch.Tensor, settings: RelevanceSettings) -> Found:
    with torch.no_grad():
        outputs = net.eval()(inputs)
    task = "segmentation" if outputs.ndim == 4 else "classification"
    relevance = Relevance(net, inputs, settings)
    return relevance.of(net, inputs, outputs.argmax(1), task)


def total(value: torch.Tensor) -> float:
    return float(value.sum(dtype=torch.float64))


@pytest.mark.parametrize(("name", "composite", "batch_norm"), CASES)
def test_all_models(name: str, composite: Composite, batch_norm: Norm) -> None:
    shape = {"mlp": (1, 8, 8), "lenet5": (1, 28, 28), "ds_cnn": WORD}.get(name, COLOUR)
    inputs = inputs_of(shape)
    net = prepared(MODELS.get(name)().seeded(shape, 10, 1), inputs)
    found = found_in(net, inputs, RelevanceSettings(composite, batch_norm))
    weights = [parameter for parameter, p in net.named_parameters() if p.ndim > 1]
    assert list(found.weights) == weights
    assert found.total > 0.1
    # many gradients of the deepest of these are large, and so is what epsilon takes of them
    rel = 1e-3 if name == "mobilenet_v2" else 1e-6
    ends = [total(found.weights[weight]) for weight in (weights[0], weights[-1])]
    if name != "ds_cnn":  # it pads its inputs in a layer of its own, and padding has its share
        ends.append(total(found.inputs))
    for value in ends:
        assert value == pytest.approx(found.total, rel=rel)


def residual(kind: str) -> nn.Module:
    if kind == "cifar":
        return ResNetModule(3, 1, 4)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)


@pytest.mark.parametrize("batch_norm", ["merge", "pass"])
@pytest.mark.parametrize("composite", [PLUS, PLAIN, BOTH])
@pytest.mark.parametrize("kind", ["cifar", "torchvision"])
def test_layers_of_a_residual_branch_share_as_much(
    kind: str, composite: Composite, batch_norm: Norm
) -> None:
    torch.manual_seed(1)
    inputs = inputs_of(COLOUR)
    net = prepared(residual(kind), inputs)
    found = found_in(net, inputs, RelevanceSettings(composite, batch_norm))
    sums = {name.removesuffix(".weight"): total(value) for name, value in found.weights.items()}
    blocks = [name.removesuffix(".conv2") for name in sums if name.endswith("conv2")]
    assert len(blocks) == 3 + (kind == "torchvision")
    for block in blocks:
        assert sums[f"{block}.conv1"] == pytest.approx(sums[f"{block}.conv2"], rel=1e-6)
        assert abs(sums[f"{block}.conv1"]) > 1e-3
    if kind == "torchvision":  # what the branch has not, the shortcut has
        shares = sums["layer4.0.conv2"] + sums["layer4.0.downsample.0"]
        assert shares == pytest.approx(found.total, rel=1e-6)


@pytest.mark.parametrize("composite", [PLUS, PLAIN, BOTH])
def test_layers_in_a_row_have_the_same_share(composite: Composite) -> None:
    inputs = inputs_of((3, 8, 8))
    net = nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.LeakyReLU(), nn.Conv2d(8, 16, 3, groups=2)),
        *(nn.BatchNorm2d(16), nn.GELU(), nn.AvgPool2d(2), nn.ConvTranspose2d(16, 8, 2, groups=2)),
        *(nn.SiLU(), nn.Upsample(scale_factor=2), nn.Flatten(), nn.Linear(8 * 36, 20)),
        *(nn.LayerNorm(20), nn.Hardswish(), nn.Linear(20, 4)),
    )
    torch.manual_seed(2)
    for part in net:
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()  # type: ignore[operator]
    net[7].register_parameter("bias", None)
    found = found_in(prepared(net, inputs), inputs, RelevanceSettings(composite))
    assert len(found.weights) == 5
    for value in (*found.weights.values(), found.inputs):
        assert total(value) == pytest.approx(found.total, rel=1e-6)
