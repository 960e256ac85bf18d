"""Integer tensors to code: drawn ones of 512 × 4608, and updates recorded from a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torchvision.models import resnet18

from fedcomp.coding import quantise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Levels = NDArray[np.int32]

SHAPE = (512, 4608)
"""The largest layers of ResNet-18: 512 filters of 512 × 3 × 3."""

_SPREAD = 1.5
_STEP = 2.0**-11
_TRAIN_STEPS, _BATCH, _LR = 40, 32, 0.02


@dataclass(frozen=True, eq=False)
class Case:
    """Tensors that are coded one by one.

    Attributes
    ----------
    dependent
        The levels are those of the 8-state quantiser.
    rate
        Weights a second that the coder has to reach; 0 where none are asked.
    """

    name: str
    tensors: dict[str, Levels]
    dependent: bool = False
    rate: float = 0.0

    @property
    def weights(self) -> int:
        """Number of levels of all tensors."""
        return sum(levels.size for levels in self.tensors.values())


def cases() -> Iterator[Case]:
    """Yield all cases; the first ones are drawn, the last ones recorded."""
    rng = np.random.default_rng(1)
    yield Case("Laplace", {"w": laplace(rng, SHAPE)})
    values = rng.laplace(0, _SPREAD, SHAPE)
    yield Case("Laplace, dependent", {"w": quantise.dependent(values, 0.5)}, dependent=True)
    for sparsity, rate in ((0.8, 0.0), (0.96, 40e6), (0.99, 80e6)):
        levels = np.where(rng.random(SHAPE) < sparsity, 0, _nonzero(rng))
        yield Case(f"{100 * sparsity:.0f} % sparse", {"w": levels}, rate=rate)
    signs = np.where(rng.random(SHAPE) < 0.96, 0, np.sign(_nonzero(rng)))
    yield Case("96 % sparse, ternary", {"w": signs}, rate=40e6)
    yield Case("ResNet-18 update", recorded())
    yield Case(
        "ResNet-18 update, 96 % sparse", {name: _largest(u) for name, u in recorded().items()}
    )


def laplace(rng: np.random.Generator, shape: tuple[int, ...]) -> Levels:
    """Return rounded Laplace numbers, with b = 1.5 steps."""
    return np.rint(rng.laplace(0, _SPREAD, shape)).astype(np.int32)


@lru_cache(maxsize=1)
def recorded() -> dict[str, Levels]:
    """Return what some steps of SGD on the digits change in a fresh ResNet-18, in steps of 2^-11.

    The digits are enlarged to 32 × 32 pixels and three channels.  Parameters and the statistics of
    the batch norms count, its counters do not.
    """
    torch.manual_seed(1)
    images, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy((images.reshape(-1, 1, 8, 8) / 16).astype(np.float32))
    inputs = F.interpolate(pixels, size=32, mode="bilinear").expand(-1, 3, -1, -1)
    targets = torch.from_numpy(labels)
    net = resnet18(num_classes=10)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer = torch.optim.SGD(net.parameters(), lr=_LR, momentum=0.9)
    for _ in range(_TRAIN_STEPS):
        batch = torch.randperm(len(targets))[:_BATCH]
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs[batch]), targets[batch])
        torch.autograd.backward(loss)
        optimizer.step()
    return {
        name: quantise.uniform((value - before[name]).numpy(), _STEP)
        for name, value in net.state_dict().items()
        if value.is_floating_point()
    }


def _nonzero(rng: np.random.Generator) -> Levels:
    """Return Laplace numbers rounded away from 0."""
    values = rng.laplace(0, _SPREAD, SHAPE)
    return (np.sign(values) * np.ceil(abs(values))).astype(np.int32)


def _largest(levels: Levels) -> Levels:
    """Keep the 4 % of a tensor that are largest in magnitude, at least one level."""
    flat = levels.ravel()
    kept = np.argsort(abs(flat), kind="stable")[-math.ceil(0.04 * flat.size) :]
    sparse = np.zeros_like(flat)
    sparse[kept] = flat[kept]
    return sparse.reshape(levels.shape)
