"""Distillation without labels: a student learns the softened predictions of a teacher.

    min over student of mean KL(softmax(t / T) ‖ softmax(s / T))

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531; without
their factor T² and without labels, as FedCompress uses it (arXiv:2401.14211).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from fedcomp.training.batches import Batches
from fedcomp.training.loop import place, seed_torch, train_mode
from fedcomp.training.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from fedcomp.data.base import Samples
    from fedcomp.training.settings import DistillationSettings, TrainSettings


def distil(
    student: nn.Module,
    teacher: nn.Module,
    samples: Samples,
    *,
    settings: DistillationSettings,
    placing: TrainSettings,
    task: str,
    rng: np.random.Generator,
    before_step: Callable[[], None],
    more: Sequence[nn.Parameter] = (),
) -> float:
    """Train a student in place; return the mean divergence over the batches of the last epoch.

    Batch norms keep the statistics of the clients' data: the samples may look quite different.

    Parameters
    ----------
    placing
        Device and memory layout.
    before_step, more
        As in `fedcomp.training.loop.train`.
    """
    device = place(student, placing)
    place(teacher, placing)
    train_mode(student)
    for part in student.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    teacher.eval()
    batches = Batches(samples, device, channels_last=placing.channels_last)
    parameters = [p for p in student.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam([*parameters, *more], lr=settings.lr)
    seed_torch(device, int(rng.integers(2**63)))
    losses: list[torch.Tensor] = []
    size = min(settings.batch_size, len(samples))
    an_epoch = len(samples) // size
    for at in range(settings.epochs * an_epoch):
        if at % an_epoch == 0:
            order = rng.permutation(len(samples))[: an_epoch * size].reshape(an_epoch, size)
        inputs, _ = batches.training(order[at % an_epoch], rng)
        with torch.no_grad():
            wanted = teacher(inputs)
        optimizer.zero_grad(set_to_none=True)
        loss = TASKS[task].divergence(student(inputs), wanted, settings.temperature)
        losses.append(loss.detach())
        torch.autograd.backward(loss)
        before_step()
        optimizer.step()
    return float(torch.stack(losses[-an_epoch:]).mean())
