"""The models whose updates travel in the benchmarks of the link, and what a round of them costs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from torchvision.models import resnet18

from fedcomp.data.base import Samples
from fedcomp.models.base import manifest_of, read_tensors
from fedcomp.models.vgg import VGG11s
from fedcomp.tensors import Kind, add
from fedcomp.training.loop import train
from fedcomp.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch import nn

    from fedcomp.tensors import Manifest, Tensors

MEASURED_IMAGES, CLIENT_IMAGES = 64, 500
_CLASSES = 10
_SPREAD = 1e-3


@dataclass(frozen=True, eq=False)
class Subject:
    """A module by name, and how both ends of a link see it."""

    name: str
    module: nn.Module
    manifest: Manifest

    @classmethod
    def of(cls, name: str, module: nn.Module) -> Subject:
        """Describe a module."""
        return cls(name, module, manifest_of(module))

    @cached_property
    def initial(self) -> Tensors:
        """The module's values when they were first asked for."""
        return read_tensors(self.module)

    def update(self, seed: int) -> Tensors:
        """Draw a normal change of each tensor; counters go on by one."""
        rng = np.random.default_rng(seed)
        return {
            spec.name: np.ones(spec.shape, np.int64)
            if spec.kind is Kind.COUNTER
            else (_SPREAD * rng.standard_normal(spec.shape)).astype(np.float32)
            for spec in self.manifest.specs
        }

    def trained(self, received: Tensors, seed: int) -> Tensors:
        """Return a received model with a drawn update."""
        return add(received, self.update(seed))

    def epoch_seconds(self) -> float:
        """Return the time of an epoch over a client's images, from one over fewer.

        The images are random, of 32 × 32 pixels in three channels, in batches of 16.
        """
        rng = np.random.default_rng(1)
        images = rng.standard_normal((MEASURED_IMAGES, 3, 32, 32)).astype(np.float32)
        samples = Samples(images, rng.integers(_CLASSES, size=MEASURED_IMAGES))
        began = time.perf_counter()
        train(
            self.module,
            samples,
            TrainSettings(epochs=1, device="cpu"),
            task="classification",
            lr=1e-3,
            proximal_mu=0.0,
            rng=rng,
        )
        return (time.perf_counter() - began) * CLIENT_IMAGES / MEASURED_IMAGES


def resnet() -> Subject:
    """Return ResNet-18 with 11 million parameters."""
    return Subject.of("ResNet-18", resnet18(num_classes=_CLASSES))


def vgg11s() -> Subject:
    """Return the thin VGG-11 of 865,482 parameters."""
    return Subject.of("VGG11s", VGG11s().build((3, 32, 32), _CLASSES))
