from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedcomp.data.base import Samples
from fedcomp.models.base import read_tensors
from fedcomp.models.scaling import attach_scales, scales_of
from fedcomp.training.loop import evaluate
from fedcomp.training.scale_training import train_scales
from fedcomp.training.settings import ScaleSettings, TrainSettings

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


def trained(settings: ScaleSettings, validation: Samples | None = None) -> tuple[nn.Module, bool]:
    module, samples = task()
    rng = np.random.default_rng(1)
    given = validation or samples
    kept = train_scales(module, samples, given, settings, BATCHES, task="classification", rng=rng)
    return module, kept


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
    module, kept = trained(ScaleSettings(lr=0.05), contrary)
    assert not kept
    assert all(bool((scale == 1).all()) for scale in scales_of(module).values())
    _, kept = trained(ScaleSettings(lr=0.05, min_gain=100.0))
    assert not kept


def test_the_best_sub_epoch_wins_and_scales_stay_positive() -> None:
    module, _ = trained(ScaleSettings(epochs=6, lr=3.0, least=0.5, optimizer="sgd"))
    for scale in scales_of(module).values():
        assert float(scale.detach().min()) >= 0.5
