"""Training the scale factors of FSFL on top of weights that have already lost what they lose.

Only S is trained, by its own optimiser; batch norms keep their statistics.  After each sub-epoch
the model is validated with S as the server will see it, and the best one is kept if it is better
than the one that came:

    keep S only if loss(validation, Q(S)) < loss(validation, S_received) − min_gain
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fedcomp.models.scaling import only, scales_of
from fedcomp.training.batches import Batches
from fedcomp.training.loop import batch_ends, evaluate, index_batches, place
from fedcomp.training.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from fedcomp.data.base import Samples
    from fedcomp.tensors import Tensors
    from fedcomp.training.settings import ScaleSettings, TrainSettings


def train_scales(
    module: nn.Module,
    train: Samples,
    validation: Samples,
    *,
    settings: ScaleSettings,
    batches: TrainSettings,
    task: str,
    rng: np.random.Generator,
    seen: Callable[[Tensors], Tensors] = dict,
) -> Tensors | None:
    """Train a module's scale factors; return the best by name, None if none are better.

    Parameters
    ----------
    seen
        What the server will see of scale factors; that is what has to be better.
    """
    scales = {name: scale for name, scale in scales_of(module).items() if scale.requires_grad}
    if not scales:  # train.parameters leaves them out
        return None

    def loss_of(values: Tensors) -> float:
        _load(scales, values)
        return evaluate(module, validation, batches, task=task)["loss"]

    best = None
    least_loss = loss_of(_values(scales)) - settings.min_gain
    device = place(module, batches)
    prepared = Batches(train, device, channels_last=batches.channels_last)
    optimizer = _optimizer(list(scales.values()), settings)
    ends = batch_ends(len(train), batches.batch_size)
    an_epoch = settings.steps or len(ends) + 1
    module.eval()  # dropout rests, too: S makes up for what this one model has lost
    with only(scales.values(), module):
        order = index_batches(len(train), ends, settings.epochs * an_epoch, rng)
        for step, index in enumerate(order):
            optimizer.param_groups[0]["lr"] = settings.learning_rate(step, an_epoch)
            inputs, targets = prepared.training(index, rng)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(TASKS[task].loss(module(inputs), targets))
            optimizer.step()
            with torch.no_grad():
                for scale in scales.values():
                    scale.clamp_(min=settings.least)
            if (step + 1) % an_epoch:
                continue
            trained = _values(scales)
            loss = loss_of(seen(trained))
            if loss < least_loss:
                least_loss, best = loss, trained
            _load(scales, trained)
    return best


def _values(scales: Mapping[str, nn.Parameter]) -> Tensors:
    return {name: scale.detach().cpu().numpy().copy() for name, scale in scales.items()}


@torch.no_grad()
def _load(scales: Mapping[str, nn.Parameter], values: Tensors) -> None:
    for name, scale in scales.items():
        scale.copy_(torch.from_numpy(np.array(values[name])))


def _optimizer(parameters: list[nn.Parameter], settings: ScaleSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.lr)
    return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum)
