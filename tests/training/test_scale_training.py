from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fedcomp.training.scale_training as scale_training
from fedcomp.data.base import Samples
from fedcomp.models.base import read_tensors
from fedcomp.models.scaling import attach_scales, scales_of
from fedcomp.tensors import Tensors
from fedcomp.training.loop import evaluate
from fedcomp.training.scale_training import train_scales
from fedcomp.training.settings import ScaleSettings, TrainSettings
from tests.common import equal

BATCHES = TrainSettings(batch_size=32, device="cpu")


def task() -> tuple[nn.Module, Samples]:
    """Return a net whose filters have the wrong strength, and samples that say so."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(256, 6, 1, 1)).astype(np.float32)
    with torch.no_grad():
        labels = module.eval()(torch.from_numpy(inputs)).argmax(dim=1).numpy()
        module[3].weight *= torch.tensor([[0.2], [3.0], [1.0]])
    attach_scales(module)
    return module, Samples(inputs, labels)


def trained(
    settings: ScaleSettings, validation: Samples | None = None, **options: Any
) -> tuple[nn.Module, bool]:
    """Return the net with what was found, and whether something was."""
    module, samples = task()
    rng = np.random.default_rng(1)
    given = validation or samples
    words: Any = {"settings": settings, "batches": BATCHES, "task": "classification", **options}
    found = train_scales(module, samples, given, rng=rng, **words)
    with torch.no_grad():
        for name, scale in scales_of(module).items():
            scale.copy_(torch.from_numpy(found[name]) if found else torch.ones_like(scale))
    return module, found is not None


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_scales_make_up_for_filters_of_the_wrong_strength(optimizer: str, schedule: str) -> None:
    module, samples = task()
    before = evaluate(module, samples, BATCHES, task="classification")["loss"]
    settings = ScaleSettings(epochs=4, lr=0.05, optimizer=optimizer, schedule=schedule)  # type: ignore[arg-type]
    module, kept = trained(settings)
    assert kept
    assert evaluate(module, samples, BATCHES, task="classification")["loss"] < 0.9 * before


def test_nothing_but_scales_changes() -> None:
    before, _ = task()
    module, kept = trained(ScaleSettings(lr=0.05))
    assert kept
    names = set(scales_of(module))
    old, new = read_tensors(before), read_tensors(module)
    assert {name for name in old if not np.array_equal(old[name], new[name])} == names
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_scales_that_validate_worse_are_given_up() -> None:
    _, samples = task()
    contrary = Samples(samples.inputs, (samples.targets + 1) % 3)
    _, kept = trained(ScaleSettings(lr=0.05), contrary)
    assert not kept
    _, kept = trained(ScaleSettings(lr=0.05, min_gain=100.0))
    assert not kept


def test_scales_stay_at_or_above_the_least() -> None:
    module, _ = trained(ScaleSettings(epochs=6, lr=3.0, least=0.5, optimizer="sgd"))
    for scale in scales_of(module).values():
        assert float(scale.detach().min()) >= 0.5


@pytest.mark.parametrize(
    ("losses", "best"),
    [((2.0, 1.5, 1.2, 1.4), 2), ((2.0, 1.5, 1.6, 1.4), 3), ((2.0, 2.0, 2.1, 1.95), None)],
)
def test_the_best_sub_epoch_wins_if_it_wins_enough(
    losses: tuple[float, ...], best: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first loss is that of the scale factors that came; 0.1 less is asked for."""
    left = iter(losses)
    asked: list[Tensors] = []

    def evaluated(module: nn.Module, *_: Any, **__: Any) -> dict[str, float]:
        asked.append({n: s.detach().numpy().copy() for n, s in scales_of(module).items()})
        return {"loss": next(left)}

    monkeypatch.setattr(scale_training, "evaluate", evaluated)
    module, samples = task()
    settings = ScaleSettings(epochs=3, lr=0.05, min_gain=0.1)
    words: Any = {"settings": settings, "batches": BATCHES, "task": "classification"}
    found = train_scales(module, samples, samples, rng=np.random.default_rng(1), **words)
    assert (found is None) == (best is None)
    if found is not None and best is not None:
        assert equal(found, asked[best])


def test_what_counts_is_what_the_server_will_see() -> None:
    """Rounded away, the best ones are as good as none; training goes on from exact ones."""
    steps: list[float] = []

    def coarse(scales: Tensors) -> Tensors:
        steps.append(max(float(np.abs(value - 1).max()) for value in scales.values()))
        return {name: np.round(value) for name, value in scales.items()}

    settings = ScaleSettings(epochs=4, lr=0.01, schedule="constant")
    _, kept = trained(settings)
    assert kept
    _, kept = trained(settings, seen=coarse)
    assert not kept
    assert steps == sorted(steps)
    assert 2 * steps[0] < steps[-1] < 0.5


@pytest.mark.parametrize(("steps", "an_epoch"), [(None, 8), (3, 3)])
def test_each_sub_epoch_has_its_steps_and_rates(
    steps: int | None, an_epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    original = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    settings = ScaleSettings(epochs=2, steps=steps, lr=0.1)
    trained(settings)
    assert rates == [settings.learning_rate(at, an_epoch) for at in range(2 * an_epoch)]
    assert rates[an_epoch] == 0.1
