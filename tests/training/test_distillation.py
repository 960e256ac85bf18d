"""Distillation: a student comes nearer to its teacher, by the divergence that the task has."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from fedcomp.data.base import Samples
from fedcomp.training.clustered import ClusteredSteps
from fedcomp.training.distillation import distil
from fedcomp.training.settings import DistillationSettings, TrainSettings
from fedcomp.training.tasks import TASKS


def net() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 4),
    )


def samples(count: int = 70, seed: int = 1) -> Samples:
    inputs = np.random.default_rng(seed).normal(size=(count, 1, 6, 6)).astype(np.float32)
    return Samples(inputs, np.zeros(count, np.int64))


def compressed(given: Samples, settings: DistillationSettings, count: int = 3) -> nn.Sequential:
    student = net()
    with ClusteredSteps(student, ["0.weight", "4.weight"], count) as steps:
        distil(
            student,
            net(),
            given,
            settings=settings,
            placing=TrainSettings(),
            task="classification",
            rng=np.random.default_rng(1),
            before_step=steps.before_step,
            more=steps.centroids,
        )
    return student.eval()


def divergence(student: nn.Module, given: Samples) -> float:
    inputs = torch.from_numpy(given.inputs)
    with torch.no_grad():
        wanted = net().eval()(inputs)
        return float(TASKS["classification"].divergence(student.eval()(inputs), wanted, 2.0))


def test_it_lowers_the_divergence_of_what_clustering_made() -> None:
    seen, other = samples(300), samples(300, seed=2)
    plain = net()
    with ClusteredSteps(plain, ["0.weight", "4.weight"], 3):
        pass
    student = compressed(seen, DistillationSettings(epochs=40, batch_size=16))
    assert divergence(student, seen) < 0.8 * divergence(plain, seen)
    assert divergence(student, other) < 0.9 * divergence(plain, other)
    for name in ("0.weight", "4.weight"):
        assert len(student.get_parameter(name).unique()) <= 3


def test_batch_norm_keeps_the_statistics_of_the_clients() -> None:
    student = compressed(samples(), DistillationSettings(epochs=2, batch_size=8, lr=1e-2))
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(student.state_dict()[name], net().state_dict()[name])
    assert not torch.equal(student.get_parameter("1.weight"), net().get_parameter("1.weight"))


@pytest.mark.parametrize(("count", "size", "steps"), [(70, 32, 2), (5, 32, 1), (64, 32, 2)])
def test_a_rest_is_left_out_unless_it_is_all(count: int, size: int, steps: int) -> None:
    seen: list[int] = []
    student = net()
    student.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    distil(
        student,
        net(),
        samples(count),
        settings=DistillationSettings(epochs=3, batch_size=size),
        placing=TrainSettings(),
        task="classification",
        rng=np.random.default_rng(1),
        before_step=lambda: None,
    )
    assert seen == [min(size, count)] * 3 * steps


def test_equal_seeds_give_equal_students() -> None:
    given, settings = samples(), DistillationSettings(epochs=2, batch_size=16, lr=1e-3)
    one, other = (compressed(given, settings).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_divergences_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(5)
    student, teacher = (torch.from_numpy(rng.normal(size=(5, 4, 2, 3))) for _ in range(2))
    p, q = (torch.softmax(t / 2, dim=1) for t in (teacher, student))
    per_pixel = (p * (p / q).log()).sum(dim=1)
    found = TASKS["segmentation"].divergence(student, teacher, 2.0)
    assert float(found) == pytest.approx(float(per_pixel.mean()))
    flat = TASKS["classification"].divergence(student[..., 0, 0], teacher[..., 0, 0], 2.0)
    assert float(flat) == pytest.approx(float(per_pixel[:, 0, 0].mean()))
    for one in (student, teacher):
        assert float(TASKS["segmentation"].divergence(one, one, 3.0)) == pytest.approx(0, abs=1e-9)


def test_the_divergence_of_many_labels_is_that_of_their_coins() -> None:
    rng = np.random.default_rng(6)
    student, teacher = (torch.from_numpy(rng.normal(size=(6, 3))) for _ in range(2))
    p, q = (torch.sigmoid(t / 1.5) for t in (teacher, student))
    coins = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    found = TASKS["multilabel"].divergence(student, teacher, 1.5)
    assert float(found) == pytest.approx(float(coins.sum(dim=1).mean()))


def test_a_teacher_is_not_changed() -> None:
    teacher = net()
    before = deepcopy(teacher.state_dict())
    distil(
        net(),
        teacher,
        samples(),
        settings=DistillationSettings(epochs=1),
        placing=TrainSettings(),
        task="classification",
        rng=np.random.default_rng(1),
        before_step=lambda: None,
    )
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
