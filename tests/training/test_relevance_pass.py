"""What a pass takes from a module, what it leaves alone, and where norms are merged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.ops import SqueezeExcitation

from fedcomp.models.base import read_tensors
from fedcomp.models.scaling import attach_scales
from fedcomp.training.clustered import ClusteredSteps
from fedcomp.training.relevance import Averaged, Found, Relevance
from fedcomp.training.relevance_rules import standardised
from fedcomp.training.settings import RelevanceSettings
from tests.common import equal

DEFAULT = RelevanceSettings()


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


def test_weights_behind_those_of_a_quantised_net_count_in_their_place() -> None:
    net, (inputs, targets) = norms(), images()
    relevance = Relevance(net, inputs[:1], DEFAULT)
    behind = {name: p.detach() + 0.1 for name, p in net.named_parameters()}
    own, other = (
        relevance.of(net, inputs, targets, "classification", whole) for whole in (None, behind)
    )
    torch.testing.assert_close(own.inputs, other.inputs)
    for name, value in own.weights.items():
        expected = value / net.get_parameter(name).detach() * behind[name]
        torch.testing.assert_close(other.weights[name], expected)


@pytest.mark.parametrize("norm", [nn.LayerNorm((6, 4, 4)), nn.GroupNorm(3, 6), nn.LayerNorm(4)])
def test_norms_of_single_samples_give_what_they_get(norm: nn.LayerNorm | nn.GroupNorm) -> None:
    torch.manual_seed(2)
    norm = norm.double()
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64).requires_grad_()
    y = standardised(norm, x)
    torch.testing.assert_close(y, norm(x))
    relevance = torch.rand_like(y)
    (pseudo,) = torch.autograd.grad(y, x, relevance / y.detach())
    torch.testing.assert_close((pseudo * x).sum(), relevance.sum(), rtol=1e-2, atol=0)


def test_small_sums_before_a_layer_norm_do_not_explode() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(192, 16, bias=False), nn.Linear(16, 16, bias=False)
            self.norm, self.last = nn.LayerNorm(16), nn.Linear(16, 4, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.one(x.flatten(1))
            x = x - x.detach().round(decimals=4) + 1e-7 * self.two(x)  # close to 0
            found: torch.Tensor = self.last(self.norm(x))
            return found

    torch.manual_seed(3)
    found = passed(Block(), replace(DEFAULT, composite="epsilon_flat"))
    assert max(float(value.abs().max()) for value in found.weights.values()) < 10


@pytest.mark.parametrize("kind", ["shared", "hidden"])
def test_only_what_comes_first_is_flat(kind: str) -> None:
    """A first layer that runs twice, or behind one that is not known, keeps its own rule."""

    class Own(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self._conv_forward(x, self.weight, self.bias)
            return found

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = (nn.Conv2d if kind == "shared" else Own)(3, 3, 3, padding=1, bias=False)
            self.head = nn.Linear(192, 4, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x).relu()
            x = self.stem(x).relu() if kind == "shared" else x
            found: torch.Tensor = self.head(x.flatten(1))
            return found

    torch.manual_seed(4)
    net, (inputs, targets) = Net(), images()
    found = passed(net, replace(DEFAULT, composite="epsilon_flat"))
    inputs.requires_grad_()
    scores = net(inputs).gather(1, targets[:, None]).sum() / len(targets)
    names = ("stem.weight", "head.weight")
    slopes = torch.autograd.grad(scores, [net.get_parameter(name) for name in names])
    for name, slope in zip(names, slopes, strict=True):
        expected = slope * net.get_parameter(name).detach()
        torch.testing.assert_close(found.weights[name], expected, rtol=1e-3, atol=2e-5)


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


@pytest.mark.parametrize("fill", [0.0, 1.0, -3.0])
@pytest.mark.parametrize(
    "settings",
    [
        RelevanceSettings(),
        RelevanceSettings("epsilon_flat", "pass"),
        RelevanceSettings("alpha2_beta1_flat", start="ones"),
        RelevanceSettings("alpha2_beta1_flat", "pass", "probability"),
    ],
)
def test_constant_inputs_and_dead_layers_give_finite_relevances(
    settings: RelevanceSettings, fill: float
) -> None:
    net = norms()
    net[5].weight.data[0] = 0  # type: ignore[index]
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


def test_an_overflow_is_left_out() -> None:
    averaged = Averaged(0.5)
    for value in (1.0, torch.inf, 3.0):
        averaged.add({"weight": torch.tensor([value])})
    assert averaged.weights["weight"].item() == 2


def test_layers_may_be_called_by_keyword_and_buffers_shared() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(192, 8), nn.Linear(8, 4)
            for part in (self.one, self.two):
                part.register_buffer("scale", torch.ones(1))
            self.two.scale = self.one.scale

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.two(input=self.one(input=x.flatten(1)) * self.two.scale)
            return found

    assert passed(Net()).weights.keys() == {"one.weight", "two.weight"}
