"""A pass of layer-wise relevance beside a training step on the same batch, in turns."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from fedcomp.models.resnet_cifar import ResNet20
from fedcomp.models.vgg import VGG11s
from fedcomp.runtime import limit_threads
from fedcomp.training.relevance import Relevance
from fedcomp.training.settings import RelevanceSettings
from scripts.benchmarks.rows import Row
from scripts.benchmarks.timing import in_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

_CORES, _IMAGES, _CLASSES = 2, 64, 10
_TARGET = 2.5
_COMPOSITES = (
    RelevanceSettings(),
    RelevanceSettings(batch_norm="pass"),
    RelevanceSettings("epsilon_flat"),
    RelevanceSettings("alpha2_beta1_flat"),
)


def rows() -> Iterator[Row]:
    """Measure one row after the other."""
    limit_threads(_CORES)
    for family in (ResNet20, VGG11s):
        for settings in _COMPOSITES:
            module = family().seeded((3, 32, 32), _CLASSES, seed=1)
            has_norms = any(isinstance(p, torch.nn.BatchNorm2d) for p in module.modules())
            if settings.batch_norm == "merge" or has_norms:
                yield _row(family.name, module, settings)


def _row(name: str, module: nn.Module, settings: RelevanceSettings) -> Row:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(_IMAGES, 3, 32, 32, generator=generator)
    targets = torch.randint(_CLASSES, (_IMAGES,), generator=generator)
    relevance = Relevance(module, inputs[:1], settings)
    optimizer = torch.optim.SGD(module.parameters(), 1e-3, momentum=0.9)

    def found() -> float:
        began = time.perf_counter()
        relevance.of(module, inputs, targets, "classification")
        return time.perf_counter() - began

    def step() -> float:
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(F.cross_entropy(module(inputs), targets))
        optimizer.step()
        return time.perf_counter() - began

    own, steps = in_turns(found, step)
    what = f"{name}, {settings.composite}, batch norm: {settings.batch_norm}"
    remark = f"batches of {_IMAGES} on {_CORES} cores"
    target = _TARGET if settings == RelevanceSettings() else None
    return Row(f"{what}: pass beside a step", "s", own, steps, "peer", target, remark)
