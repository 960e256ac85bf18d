"""Training the scale factors of FSFL on top of weights that have already lost what they lose.

Only S is trained, by its own optimiser; batch norms keep their statistics.  After each sub-epoch
the model is validated, and the best S is kept if it is better than the one that came:

    keep S only if loss(validation, S) < loss(validation, S_received) − min_gain
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fedcomp.models.scaling import only, scales_of
from fedcomp.training.batches import Batches
from fedcomp.training.loop import batch_ends, evaluate, index_batches, place
from fedcomp.training.tasks import TASKS

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from fedcomp.data.base import Samples
    from fedcomp.training.settings import ScaleSettings, TrainSettings


def train_scales(
    module: nn.Module,
    train: Samples,
    validation: Samples,
    settings: ScaleSettings,
    batches: TrainSettings,
    *,
    task: str,
    rng: np.random.Generator,
) -> bool:
    """Train a module's scale factors in place; tell whether better ones were found and kept."""
    scales = [scale for scale in scales_of(module).values() if scale.requires_grad]
    if not scales:  # train.parameters leaves them out
        return False
    best = [scale.detach().clone() for scale in scales]
    least_loss = evaluate(module, validation, batches, task=task)["loss"] - settings.min_gain
    accepted = False
    device = place(module, batches)
    prepared = Batches(train, device, channels_last=batches.channels_last)
    optimizer = _optimizer(scales, settings)
    ends = batch_ends(len(train), batches.batch_size)
    an_epoch = settings.steps or len(ends) + 1
    with only(scales, module):
        order = index_batches(len(train), ends, settings.epochs * an_epoch, rng)
        for step, index in enumerate(order):
            module.eval()
            optimizer.param_groups[0]["lr"] = settings.learning_rate(step, an_epoch)
            inputs, targets = prepared.training(index, rng)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(TASKS[task].loss(module(inputs), targets))
            optimizer.step()
            with torch.no_grad():
                for scale in scales:
                    scale.clamp_(min=settings.least)
            if (step + 1) % an_epoch:
                continue
            loss = evaluate(module, validation, batches, task=task)["loss"]
            if loss < least_loss:
                least_loss, accepted = loss, True
                best = [scale.detach().clone() for scale in scales]
    with torch.no_grad():
        for scale, value in zip(scales, best, strict=True):
            scale.copy_(value)
    return accepted


def _optimizer(parameters: list[nn.Parameter], settings: ScaleSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.lr)
    return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum)
