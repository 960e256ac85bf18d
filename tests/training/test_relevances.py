"""Relevance that follows a net through its training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fedcomp.data.base import Samples
from fedcomp.training.relevance import Relevance
from fedcomp.training.relevances import Relevances
from fedcomp.training.settings import RelevanceSettings, TrainSettings

BATCHES = TrainSettings(batch_size=4, device="cpu")


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.ReLU(), nn.Linear(5, 3))


def samples(count: int) -> Samples:
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(count, 1, 3, 3)).astype(np.float32)
    return Samples(inputs, rng.integers(0, 3, count))


def test_a_pass_every_few_calls_and_a_share_of_those_before() -> None:
    module, data = net(), samples(4)  # each batch is all of the data
    settings = RelevanceSettings(momentum=0.25, every=2)
    rng = np.random.default_rng(3)
    found = Relevances(module, data, settings, BATCHES, task="classification", rng=rng)

    def alone() -> dict[str, Tensor]:
        given = torch.from_numpy(data.inputs), torch.from_numpy(data.targets)
        fresh = Relevance(module, given[0], settings)
        return dict(fresh.of(module, *given, "classification", behind).weights)

    behind = {"3.weight": torch.ones(3, 5)}
    first = alone()
    one = {name: value.clone() for name, value in found.next(module, behind).items()}
    assert first.keys() == one.keys() == {"1.weight", "3.weight"}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    two = {name: value.clone() for name, value in found.next(module, behind).items()}
    second, three = alone(), found.next(module, behind)
    for name in first:
        assert torch.equal(one[name], two[name])
        assert torch.allclose(one[name], first[name], rtol=1e-4, atol=1e-6)
        mixed = 0.75 * second[name] + 0.25 * first[name]
        assert torch.allclose(three[name], mixed, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(second[name], first[name], rtol=1e-2)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_batches_are_those_of_the_generator() -> None:
    def drawn(seed: int) -> list[Tensor]:
        module, settings = net(), RelevanceSettings(every=1)
        found = Relevances(
            *(module, samples(20), settings, BATCHES),
            task="classification",
            rng=np.random.default_rng(seed),
        )
        return [found.next(module, {})["1.weight"].clone() for _ in range(7)]

    once, again, other = drawn(1), drawn(1), drawn(2)
    assert all(map(torch.equal, once, again))
    assert not any(map(torch.equal, once, once[1:]))
    assert not torch.equal(once[0], other[0])


def test_the_mean_of_some_passes() -> None:
    module, data = net(), samples(4)  # each batch is all of the data
    rng = np.random.default_rng(3)
    settings = RelevanceSettings()
    found = Relevances(module, data, settings, BATCHES, task="classification", rng=rng)
    given = torch.from_numpy(data.inputs), torch.from_numpy(data.targets)
    expected = Relevance(module, given[0], settings).of(module, *given, "classification").weights
    for name, value in found.mean(module, 3).items():
        assert torch.allclose(value, expected[name], rtol=1e-4, atol=1e-6)
