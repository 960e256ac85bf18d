"""Steps at Q(w) beside a twin that rounds and multiplies by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedcomp.codecs.assignment import assign_relevant, costs
from fedcomp.codecs.grid import Grid, step_of
from fedcomp.errors import CodecError
from fedcomp.training.quantised import Layer, QuantisedSteps, Relevant

INPUTS = torch.linspace(-1, 1, 12).reshape(4, 3)
TARGETS = torch.tensor([0, 1, 1, 0])
GRID = Grid(0.125, -8, 7)
LAYERS = {"0.weight": Layer(GRID, 0.0), "2.weight": Layer(GRID, 0.0)}


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def rounded(weights: Tensor) -> Tensor:
    return torch.clamp(torch.round(weights / GRID.step), GRID.low, GRID.high) * GRID.step


def loss(module: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(module(INPUTS), TARGETS)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_steps_are_those_of_rounding_by_hand(
    optimizer: type[torch.optim.Optimizer], scaled: bool
) -> None:
    module = net()
    with QuantisedSteps(module, LAYERS, scaled=scaled) as steps:
        ours = optimizer(module.parameters(), 0.05)  # type: ignore[call-arg]
        for _ in range(5):
            ours.zero_grad()
            torch.autograd.backward(loss(module))
            steps.before_step()
            ours.step()

    background, seen = net(), net()
    twin = optimizer(background.parameters(), 0.05)  # type: ignore[call-arg]
    for _ in range(5):
        state = {n: rounded(p) if n in LAYERS else p for n, p in background.state_dict().items()}
        seen.load_state_dict(state)
        seen.zero_grad()
        torch.autograd.backward(loss(seen))
        for name, parameter in background.named_parameters():
            gradient = seen.get_parameter(name).grad
            assert gradient is not None
            if scaled and name in LAYERS:
                gradient = torch.where(state[name] == 0, gradient, gradient * state[name].abs())
            parameter.grad = gradient.clone()
        twin.step()
    for name, value in background.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, atol=1e-6, rtol=0)
    assert not torch.equal(module.get_parameter("0.weight"), net().get_parameter("0.weight"))


def test_the_module_computes_with_levels_and_keeps_the_background() -> None:
    module, before = net(), net()
    with QuantisedSteps(module, LAYERS) as steps:
        outputs = module(INPUTS)
        inside = module.get_parameter("0.weight").detach().clone()
        assert step_of(inside.numpy(), 4) == GRID.step
        assert torch.equal(inside, rounded(before.get_parameter("0.weight")))
        assert torch.equal(outputs, module(INPUTS)), "a second pass sees the same"
    for name, value in module.state_dict().items():
        assert torch.equal(value, before.state_dict()[name])
    for name, value in steps.quantised().items():
        np.testing.assert_array_equal(value, rounded(before.get_parameter(name).detach()).numpy())


def test_relevant_weights_keep_their_levels() -> None:
    module = nn.Linear(100, 100, bias=False)
    torch.manual_seed(4)
    nn.init.normal_(module.weight, std=0.2)
    relevance = torch.rand(100, 100) ** 8
    asked: list[Tensor] = []

    def measure(seen: nn.Module, behind: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        asked.append(seen.get_parameter("weight").detach().clone())
        np.testing.assert_array_equal(behind["weight"].detach().numpy(), values)
        return {"weight": relevance}

    layer = Layer(GRID, 0.5)
    values = module.weight.detach().numpy().copy()
    with QuantisedSteps(module, {"weight": layer}, relevant=Relevant(measure, 0.2)) as steps:
        plain = steps.quantised()["weight"]
        module(torch.ones(1, 100)).sum().backward()  # type: ignore[no-untyped-call]
        steps.before_step()
        found = steps.quantised()["weight"]
    assert len(asked) == 1
    np.testing.assert_array_equal(asked[0].numpy(), plain)  # measured while it is quantised
    priced = costs(values, GRID, layer.gamma)
    levels = assign_relevant(values, priced, relevance.numpy(), 0.2)
    np.testing.assert_array_equal(found, levels * np.float32(GRID.step))
    back = (plain == 0) & (found != 0)
    assert 0.01 < back.mean() <= 0.2
    assert relevance.numpy()[back].mean() > 5 * relevance.numpy()[(found == 0)].mean()


def test_two_names_of_one_weight_have_the_same_levels() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = (nn.Linear(3, 3, bias=False) for _ in range(2))
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.b(self.a(x))
            return found

    module, relevance = Tied(), torch.rand(3, 3)
    asked: list[set[str]] = []

    def measure(seen: nn.Module, behind: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        asked.append(set(behind))
        return {"a.weight": relevance}  # as torch names it

    layers = dict.fromkeys(("b.weight", "a.weight"), Layer(Grid(0.125, -8, 7), 0.3))
    with QuantisedSteps(module, layers, relevant=Relevant(measure, 0.5)) as steps:
        module(INPUTS).sum().backward()
        steps.before_step()
        found = steps.quantised()
    assert asked == [{"a.weight", "b.weight"}]
    assert found.keys() == layers.keys()
    np.testing.assert_array_equal(found["a.weight"], found["b.weight"])
    values = module.a.weight.detach().numpy()
    priced = costs(values, GRID, 0.3)
    levels = assign_relevant(values, priced, relevance.numpy(), 0.5)
    np.testing.assert_array_equal(found["b.weight"], levels * np.float32(GRID.step))


def test_weights_that_run_away_are_named() -> None:
    module = net()
    with torch.no_grad():
        module.get_parameter("2.weight")[0, 0] = torch.inf
    with QuantisedSteps(module, LAYERS), pytest.raises(CodecError, match=r"2\.weight"):
        module(INPUTS)
