from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedcomp.data.base import Samples
from fedcomp.errors import ConfigError
from fedcomp.models.base import load_tensors, read_tensors
from fedcomp.models.small_cnn import SmallCNN
from fedcomp.tensors import Tensors, subtract
from fedcomp.training import loop
from fedcomp.training.loop import evaluate, pick_device, train, train_mode, training_steps
from fedcomp.training.settings import TrainSettings
from tests.common import equal

MODEL = SmallCNN(width=2, hidden=4)


def samples(count: int = 40) -> Samples:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(count, 1, 8, 8)).astype(np.float32)
    return Samples(inputs, rng.integers(0, 3, count))


def trained(settings: TrainSettings, mu: float = 0.0, lr: float = 0.05) -> tuple[Tensors, Tensors]:
    module = MODEL.seeded((1, 8, 8), 3, 1)
    before = read_tensors(module)
    rng = np.random.default_rng(3)
    train(module, samples(), settings, task="classification", lr=lr, proximal_mu=mu, rng=rng)
    return before, read_tensors(module)


def norm(tensors: Tensors) -> float:
    return float(np.sqrt(sum(np.square(value).sum() for value in tensors.values())))


def test_a_step_of_sgd_is_the_textbook_formula() -> None:
    settings = TrainSettings(batch_size=64, steps=1, momentum=0.0, weight_decay=0.1, device="cpu")
    before, after = trained(settings, lr=0.2)
    module = MODEL.seeded((1, 8, 8), 3, 1)
    data = samples()
    loss = nn.functional.cross_entropy(
        module(torch.from_numpy(data.inputs)), torch.from_numpy(data.targets)
    )
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        expected = before[name] - 0.2 * (parameter.grad.numpy() + 0.1 * before[name])
        np.testing.assert_allclose(after[name], expected, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_proximal_term_shrinks_the_update(optimizer: str) -> None:
    settings = TrainSettings(optimizer=optimizer, epochs=4, lr=0.01, device="cpu")
    sizes = [norm(subtract(*trained(settings, mu, lr=0.01)[::-1])) for mu in (0.0, 1.0, 10.0)]
    assert sizes[0] > sizes[1] > sizes[2] > 0


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        (TrainSettings(batch_size=16, epochs=2), 6),
        (TrainSettings(batch_size=16, epochs=2, steps=4), 4),
        (TrainSettings(batch_size=100, epochs=3), 3),
        (TrainSettings(batch_size=13, epochs=2), 6),  # 13, 13 and 14
        (TrainSettings(batch_size=1, steps=3), 3),
    ],
)
def test_epochs_and_steps(
    settings: TrainSettings, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: (counted.append(1), step(self)))
    trained(settings)
    assert len(counted) == steps


def test_an_epoch_sees_every_sample_once() -> None:
    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))
            self.seen: list[float] = []

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            self.seen += inputs.flatten().tolist()
            return self.weight.expand(len(inputs), 3)

    spy = Spy()
    data = Samples(np.arange(37, dtype=np.float32).reshape(-1, 1), np.zeros(37, np.int64))
    settings = TrainSettings(epochs=2, device="cpu")
    rng = np.random.default_rng(1)
    train(spy, data, settings, task="classification", lr=0.1, proximal_mu=0, rng=rng)
    assert sorted(spy.seen[:37]) == sorted(spy.seen[37:]) == list(range(37))
    assert spy.seen[:37] != spy.seen[37:]


def test_training_repeats_to_the_bit() -> None:
    assert equal(trained(TrainSettings())[1], trained(TrainSettings())[1])


def test_channels_last_gives_the_same_model() -> None:
    plain, last = (trained(TrainSettings(channels_last=flag))[1] for flag in (False, True))
    for name, value in plain.items():
        np.testing.assert_allclose(value, last[name], atol=1e-5)
        assert last[name].flags.c_contiguous


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (TrainSettings(lr=0.1), [0.1, 0.1, 0.1]),
        (TrainSettings(lr=0.1, lr_min=0.02, schedule="linear"), [0.1, 0.06, 0.02]),
        (TrainSettings(lr=0.1, lr_min=0.02, schedule="cosine"), [0.1, 0.06, 0.02]),
        (TrainSettings(lr=0.1, lr_decay=0.5, schedule="exponential"), [0.1, 0.05, 0.025]),
    ],
)
def test_schedules(settings: TrainSettings, expected: list[float]) -> None:
    rates = [settings.learning_rate(number, 3) for number in (1, 2, 3)]
    assert rates == pytest.approx(expected)
    assert settings.learning_rate(1, 1) == 0.1


def test_evaluation_measures_all_samples_and_changes_nothing() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.BatchNorm1d(3))
    before = read_tensors(module)
    data = samples(3000)
    found = evaluate(module, data, TrainSettings(device="cpu"), task="classification")
    with torch.no_grad():
        outputs = module(torch.from_numpy(data.inputs)).numpy()
    assert found["accuracy"] == pytest.approx(float((outputs.argmax(1) == data.targets).mean()))
    assert equal(before, read_tensors(module))
    load_tensors(module, before)


def test_a_missing_gpu_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match=r"train\.device=cuda: torch finds no GPU"):
        pick_device("cuda")


def test_the_loss_is_that_of_the_last_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter(float(value) for value in range(1, 10))

    class Counting:
        @staticmethod
        def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return 0 * outputs.sum() + next(losses)

    monkeypatch.setitem(loop.TASKS, "counting", Counting())
    module = MODEL.seeded((1, 8, 8), 3, 1)
    settings = TrainSettings(batch_size=16, epochs=3, device="cpu")
    rng = np.random.default_rng(3)
    mean = train(module, samples(), settings, task="counting", lr=0.1, proximal_mu=0.0, rng=rng)
    assert mean == pytest.approx((7 + 8 + 9) / 3)


def test_batches_of_one_stay_batches_of_one() -> None:
    assert loop.batch_ends(5, 1) == [1, 2, 3, 4]
    assert loop.batch_ends(5, 2) == [2]
    assert loop.batch_ends(6, 2) == [2, 4]
    assert loop.batch_ends(1, 4) == []


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_look_between_steps_changes_nothing(optimizer: str) -> None:
    settings = TrainSettings(optimizer=optimizer, epochs=3, lr=0.01, device="cpu")
    _, expected = trained(settings, lr=0.01)
    module = MODEL.seeded((1, 8, 8), 3, 1)
    steps = training_steps(
        *(module, samples(), settings),
        task="classification",
        lr=0.01,
        proximal_mu=0.0,
        rng=np.random.default_rng(3),
    )
    losses = []
    for loss in steps:
        losses.append(float(loss))
        evaluate(module, samples(8), settings, task="classification")
        train_mode(module)
    assert len(losses) == 3 * 3
    assert equal(read_tensors(module), expected)
