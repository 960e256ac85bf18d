"""Local training and evaluation on arrays that are already in memory."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedcomp.errors import ConfigError
from fedcomp.training.batches import Batches
from fedcomp.training.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from fedcomp.data.base import Dataset, Samples
    from fedcomp.tensors import Array
    from fedcomp.training.settings import TrainSettings


def pick_device(wanted: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` stands for on this machine."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        msg = "train.device=cuda: torch finds no GPU here; use train.device=cpu or auto"
        raise ConfigError(msg)
    return torch.device(wanted)


def import_optimisers() -> None:
    """Import now what torch imports with its first optimiser, which takes seconds.

    In the midst of a round nobody knows what the run waits for, and an interrupt waits as well.
    """
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])


def train(
    module: nn.Module,
    samples: Samples,
    settings: TrainSettings,
    *,
    task: str,
    lr: float,
    proximal_mu: float,
    rng: np.random.Generator,
    before_step: Callable[[], None] | None = None,
    more: Sequence[nn.Parameter] = (),
) -> float:
    """Train a module in place; return the mean loss over the batches of the last epoch.

    The parameters are those of `training_steps`.
    """
    losses = list(
        training_steps(
            *(module, samples, settings),
            task=task,
            lr=lr,
            proximal_mu=proximal_mu,
            rng=rng,
            before_step=before_step,
            more=more,
        )
    )
    ends = batch_ends(len(samples), settings.batch_size)
    return float(torch.stack(losses[-len(ends) - 1 :]).mean())


def training_steps(
    module: nn.Module,
    samples: Samples,
    settings: TrainSettings,
    *,
    task: str,
    lr: float,
    proximal_mu: float,
    rng: np.random.Generator,
    before_step: Callable[[], None] | None = None,
    more: Sequence[nn.Parameter] = (),
) -> Iterator[Tensor]:
    """Train a module in place, and yield the loss after each step.

    Between steps the module may be evaluated; `train_mode` is to be called after that.

    The proximal term pulls towards the parameters that the module has at the start:
    loss + μ/2·‖w − w₀‖² (Li et al., "Federated Optimization in Heterogeneous Networks",
    MLSys 2020, arXiv:1812.06127); it is not in the loss that is yielded.

    Parameters
    ----------
    before_step
        Called with the gradients of the loss in place, before each step of the optimiser.
    more
        Parameters that are trained beside the module's own; `before_step` gives their gradients.
    """
    device = place(module, settings)
    train_mode(module)
    batches = Batches(samples, device, channels_last=settings.channels_last)
    parameters = [p for p in module.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in parameters] if proximal_mu > 0 else []
    optimizer = _optimizer([*parameters, *more], settings, lr)
    loss_of = TASKS[task].loss
    seed_torch(device, int(rng.integers(2**63)))
    ends = batch_ends(len(samples), settings.batch_size)
    steps = settings.steps or settings.epochs * (len(ends) + 1)
    for index in index_batches(len(samples), ends, steps, rng):
        inputs, targets = batches.training(index, rng)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(module(inputs), targets)
        torch.autograd.backward(loss)
        if before_step is not None:
            before_step()
        for parameter, origin in zip(parameters, start, strict=False):
            if parameter.grad is not None:
                parameter.grad.add_((parameter - origin).detach(), alpha=proximal_mu)
        optimizer.step()
        yield loss.detach()


def evaluate(
    module: nn.Module, samples: Samples, settings: TrainSettings, *, task: str
) -> dict[str, float]:
    """Return the loss and all metrics of a module over all samples."""
    device = place(module, settings)
    module.eval()
    meter = TASKS[task].meter()
    with torch.no_grad():
        batches = Batches(samples, device, channels_last=settings.channels_last)
        for inputs, targets in batches.evaluation():
            meter.add(module(inputs), targets)
    return meter.result()


def train_mode(module: nn.Module) -> None:
    """Switch to training; a layer of which nothing is trained keeps its running statistics."""
    module.train()
    for part in module.modules():
        own = list(part.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            part.eval()


def output_shape(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a module's outputs for one input."""
    parameter = next(module.parameters())
    with torch.no_grad():
        outputs = module.eval()(torch.zeros(1, *input_shape, device=parameter.device))
    return tuple(outputs.shape[1:])


def check_outputs(module: nn.Module, data: Dataset, model: str, dataset: str) -> None:
    """Refuse a model whose outputs are not those that the task of a data set needs."""
    found = output_shape(module, data.input_shape)
    needed = TASKS[data.task].output_shape(data.classes, data.input_shape)
    if found != needed:
        msg = (
            f"model={model}: its outputs for one input have the shape {found}, the {data.task} of"
            f" dataset={dataset} needs {needed}; choose a model for that"
        )
        raise ConfigError(msg)


def seed_torch(device: torch.device, seed: int) -> None:
    """Seed dropout and the like; `torch.manual_seed` would spend 0.5 ms on absent devices."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def place(module: nn.Module, settings: TrainSettings) -> torch.device:
    """Move a module to the device and memory layout that the settings ask for."""
    device = pick_device(settings.device)
    if next(module.parameters()).device != device:
        module.to(device)
    if settings.channels_last:
        module.to(memory_format=torch.channels_last)
    return device


def batch_ends(count: int, size: int) -> list[int]:
    """Return where the batches of an epoch end, but for the last.

    A single sample left over joins the batch before it: batch norm cannot do with one.
    """
    ends = list(range(size, count, size))
    return ends[:-1] if ends and size > 1 and count - ends[-1] == 1 else ends


def index_batches(
    count: int, ends: list[int], steps: int, rng: np.random.Generator
) -> Iterator[Array]:
    """Yield so many batches of indices; each epoch has an order of its own."""

    def endless() -> Iterator[Array]:
        while True:
            yield from np.split(rng.permutation(count), ends)

    return islice(endless(), steps)


def _optimizer(
    parameters: list[torch.nn.Parameter], settings: TrainSettings, lr: float
) -> torch.optim.Optimizer:
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters, lr=lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
