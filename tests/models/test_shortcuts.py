from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model

from fedcomp.models import MODELS
from fedcomp.models.base import manifest_of, read_tensors
from fedcomp.models.scaling import attach_scales
from fedcomp.models.selection import freeze, plain_name, selected
from fedcomp.models.shortcuts import prunable
from fedcomp.tensors import Kind, Manifest
from tests.common import equal

COLOUR = (3, 32, 32)


def left_out(module: nn.Module, shape: tuple[int, ...] = COLOUR) -> list[str]:
    """Return the weights that stay dense; all else has to be as in the manifest."""
    manifest = manifest_of(module)
    found = prunable(module, shape, manifest)
    weights = [spec.name for spec in manifest.specs if spec.kind is Kind.WEIGHT]
    assert found == [name for name in weights if name in found]
    return [name for name in weights if name not in found]


def shapeless(name: str, shape: tuple[int, ...] = COLOUR) -> nn.Module:
    """Return a net without values: its structure is there all the same, and at once."""
    with torch.device("meta"):
        return MODELS.get(name)().build(shape, 10)


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", 3),
        ("resnet50", 4),  # layer1.0.downsample.0 has the stride 1
        ("wide_resnet50_2", 4),
        ("resnext50_32x4d", 4),
        ("resnet18_cifar", 3),
        ("resnet50_cifar", 4),
        ("deeplabv3_resnet50", 4),
    ],
)
def test_residual_nets_lose_their_downsampling_convolutions(name: str, stages: int) -> None:
    module = shapeless(name)
    names = list(manifest_of(module).by_name)
    expected = [n for n in names if n.endswith("downsample.0.weight")]
    assert len(expected) == stages
    assert left_out(module) == expected


def test_projections_of_regnet() -> None:
    module = get_model("regnet_y_400mf", weights=None)
    expected = [n for n in manifest_of(module).by_name if n.endswith(".proj.0.weight")]
    assert len(expected) == 4
    assert left_out(module) == expected


def test_a_classifier_beside_the_deeper_half_of_a_net() -> None:
    found = left_out(shapeless("lraspp_mobilenet_v3_large"))
    assert found == ["classifier.low_classifier.weight"]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlp", (1, 8, 8)),
        ("small_cnn", (1, 8, 8)),
        ("lenet5", (1, 28, 28)),
        ("alexnet_cifar", COLOUR),
        ("resnet20", COLOUR),
        ("small_unet", COLOUR),
        ("ds_cnn", (1, 40, 49)),
        ("vgg11", COLOUR),
        ("mobilenet_v2", COLOUR),
        ("efficientnet_b0", COLOUR),
        ("densenet121", COLOUR),
        ("googlenet", COLOUR),
        ("shufflenet_v2_x0_5", COLOUR),
        ("convnext_tiny", COLOUR),
        ("vit_b_32", COLOUR),
    ],
)
def test_nets_without_such_shortcuts_lose_nothing(name: str, shape: tuple[int, ...]) -> None:
    module = shapeless(name, shape)
    assert left_out(module, shape) == []
    assert prunable(module, shape, manifest_of(module))


class Block(nn.Module):
    """A residual block: what it adds, and by which way its input goes round that."""

    def __init__(self, main: nn.Module, way: nn.Module, before: nn.Module | None = None) -> None:
        super().__init__()
        self.before = before or nn.Identity()
        self.main, self.way = main, way

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = self.before(inputs)
        return self.way(inputs) + self.main(inputs)


def norm() -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True))


def bottleneck() -> nn.Sequential:
    """Return two 1 × 1 convolutions about one of 3 × 3, norms first."""
    middle = nn.Conv2d(4, 4, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(4, 4, 1), norm(), middle, nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 4, 1)
    )


class Gate(nn.Module):
    """One 1 × 1 convolution squeezes and excites."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Conv2d(4, 4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        gate: Tensor = self.scale(F.adaptive_avg_pool2d(inputs, 1)).sigmoid()
        return gate * inputs


def wide() -> nn.Module:
    return nn.Conv2d(4, 4, 3, padding=1)


def point() -> nn.Module:
    return nn.Conv2d(4, 4, 1)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        # pre-activation, the shortcut from behind the first norm or from before it
        (Block(bottleneck(), point(), norm()), ["way.weight"]),
        (Block(nn.Sequential(norm().append(bottleneck())), point()), ["way.weight"]),
        (Block(bottleneck(), nn.Sequential(norm(), point())), ["way.1.weight"]),
        (Block(bottleneck(), nn.Identity(), norm()), []),
        (Block(wide(), nn.Sequential(nn.AvgPool2d(1), point(), norm())), ["way.1.weight"]),
        (Block(wide(), point(), point()), ["way.weight"]),
        (Block(wide(), nn.Conv2d(4, 4, (1, 3), padding=(0, 1))), []),
        (Block(point(), nn.Identity()), []),  # the main path, though its input is shared
        (Block(nn.Sequential(norm(), point()), nn.Identity(), wide()), []),
        (Block(wide(), nn.Identity(), point()), []),  # added by an identity further on
        (Block(nn.Sequential(wide(), Gate()), nn.Identity()), []),
        (Block(nn.Sequential(wide(), Gate()), point()), ["way.weight"]),
        (Block(wide(), Gate()), []),
        (Block(wide(), nn.Sequential(point(), point())), []),  # a path of its own
        (Block(Block(wide(), wide()), point()), ["way.weight"]),
    ],
)
@pytest.mark.parametrize("scaled", [False, True])
def test_blocks_made_by_hand(block: nn.Module, expected: list[str], scaled: bool) -> None:
    first = nn.ReLU(inplace=True)
    net = nn.Sequential(
        first, deepcopy(block), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4 * 25, 3)
    )
    if scaled:
        attach_scales(net)
    found = left_out(net, (4, 5, 5))
    assert [plain_name(name) for name in found] == [f"1.{name}" for name in expected]
    assert all(name.endswith("weight.original") == scaled for name in found)


def test_convolutions_of_one_and_three_dimensions() -> None:
    for conv, shape in ((nn.Conv1d, (2, 5)), (nn.Conv3d, (2, 3, 3, 3))):
        block: Any = Block(conv(2, 2, 3, padding=1), conv(2, 2, 1))
        assert left_out(block, shape) == ["way.weight"]


def test_a_tensor_stays_dense_under_all_its_names_once_it_is_on_a_shortcut() -> None:
    first, second = Block(wide(), point()), Block(bottleneck(), nn.Identity())
    net = nn.Sequential(point(), first, second)
    second.main[0].weight = first.way.weight
    assert left_out(net, (4, 5, 5)) == ["1.way.weight", "2.main.0.weight"]
    twice = nn.Sequential(first, norm(), first)
    assert left_out(twice, (4, 5, 5)) == ["0.way.weight", "2.way.weight"]


def test_only_tensors_of_the_manifest() -> None:
    module = shapeless("resnet18")
    manifest = selected(module, r"layer4\.0\.|fc")
    freeze(module, manifest)
    found = prunable(module, COLOUR, Manifest(manifest.specs[::-1]))
    assert found == ["fc.weight", "layer4.0.conv2.weight", "layer4.0.conv1.weight"]
    assert prunable(module, COLOUR, Manifest(())) == []


class Counter(nn.Module):
    """A layer that counts its calls, in training or not."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return inputs


def test_the_module_stays_as_it_is() -> None:
    """Frozen layers and all that they are made of; where gradients are off, too."""
    main, way = bottleneck(), nn.Sequential(point(), nn.BatchNorm2d(4))
    net = nn.Sequential(Block(main, way, norm()), Counter())
    net(torch.rand(2, 4, 5, 5)).sum().backward()
    main.requires_grad_(False).eval()
    way[0].requires_grad_(False)
    before = read_tensors(net)
    held = {n: (p, p.requires_grad, p.grad) for n, p in net.named_parameters()}
    gradients = {n: g.clone() for n, (_, _, g) in held.items() if g is not None}
    modes = [part.training for part in net.modules()]
    assert len(set(modes)) == 2
    with torch.no_grad():
        assert left_out(net, (4, 5, 5)) == ["0.way.0.weight"]
    assert equal(read_tensors(net), before)
    assert [part.training for part in net.modules()] == modes
    for name, parameter in net.named_parameters():
        assert held[name] == (parameter, parameter.requires_grad, parameter.grad)
    assert all(torch.equal(gradients[n], g) for n, (_, _, g) in held.items() if g is not None)


def test_tensors_of_other_types() -> None:
    net = nn.Sequential(Block(wide(), point())).double()
    table = torch.ones((2, 2), dtype=torch.int8)
    net.register_parameter("table", nn.Parameter(table, requires_grad=False))
    manifest = manifest_of(net)
    assert manifest.by_name["table"].kind is Kind.WEIGHT
    assert prunable(net, (4, 5, 5), manifest) == ["0.main.weight"]


class Untraced(nn.Module):
    """A block whose output autograd knows nothing of."""

    def __init__(self, result: str) -> None:
        super().__init__()
        self.block, self.result = Block(wide(), point()), result

    def forward(self, inputs: Tensor) -> object:
        outputs = self.block(inputs)
        return {
            "detached": outputs.detach(),
            "mapping": {"out": outputs},
            "constant": next(self.parameters()).sum(),
        }[self.result]


@pytest.mark.parametrize("result", ["detached", "mapping", "constant"])
def test_where_autograd_sees_nothing_all_weights_count(result: str) -> None:
    module = Untraced(result).train()
    assert left_out(module, (4, 5, 5)) == []
    assert module.training


def test_a_net_that_fails_says_so_and_is_put_back() -> None:
    module = Block(wide(), point()).train()
    with pytest.raises(RuntimeError, match="channels"):
        left_out(module, (3, 5, 5))
    assert all(part.training for part in module.modules())


def test_depth_is_no_limit() -> None:
    blocks = [Block(nn.Sequential(point(), nn.ReLU(), point()), nn.Identity()) for _ in range(300)]
    assert left_out(nn.Sequential(*blocks, Block(wide(), point())), (4, 2, 2)) == ["300.way.weight"]
