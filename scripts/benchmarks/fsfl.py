"""FSFL on VGG11s: what its codec, and its scale factors, cost beside epochs in bare PyTorch."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from fedcomp.codecs.base import Context
from fedcomp.codecs.fsfl import Fsfl
from fedcomp.codecs.levels import FINE_STEP
from fedcomp.data.base import Samples
from fedcomp.models.scaling import attach_scales
from fedcomp.runtime import limit_threads
from fedcomp.training.scale_training import train_scales
from fedcomp.training.settings import ScaleSettings, TrainSettings
from scripts.benchmarks.link_models import Subject, vgg11s
from scripts.benchmarks.rows import Row
from scripts.benchmarks.timing import in_turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

_EPOCH_IMAGES, _MEASURED_IMAGES, _VALIDATION_IMAGES = 5000, 500, 50
_SHARE, _OVERHEAD = 0.05, 1.05
_LARGER = 20  # than the updates of the link's benchmarks: steps of 2^-7 would see nothing of those
_TRAIN = TrainSettings(epochs=1, batch_size=25, device="cpu", channels_last=True)
_SCALES = ScaleSettings(epochs=2)
_PUBLISHED = Fsfl(sparsity="threshold", gain=0.9, step=2.0**-12, fine_step=FINE_STEP)


def rows() -> Iterator[Row]:
    """Measure one row after the other, on one thread."""
    limit_threads(1)
    subject = vgg11s()
    epoch = Epoch(subject.module)
    for name, codec in (("its defaults", Fsfl()), ("thresholds", _PUBLISHED)):
        yield _codec_row(subject, name, codec, epoch)
    scaled, plain = in_turns(epoch.scales, epoch.weights)
    name = f"VGG11s, S: {_SCALES.epochs} sub-epochs and validation, beside epochs of W"
    remark = f"{_MEASURED_IMAGES} images in batches of {_TRAIN.batch_size}, {_VALIDATION_IMAGES}"
    remark += " of them to validate three times"
    full = [_SCALES.epochs * value for value in plain]
    yield Row(name, "s", scaled, full, "peer", _OVERHEAD, remark)


def _codec_row(subject: Subject, name: str, codec: Fsfl, epoch: Epoch) -> Row:
    context = Context(subject.manifest, 1, 1, "uplink")
    update = {name: np.float32(_LARGER) * value for name, value in subject.update(1).items()}
    size = 0

    def encode() -> float:
        nonlocal size
        began = time.perf_counter()
        size = len(codec.encode(update, context))
        return time.perf_counter() - began

    spent, some = in_turns(encode, epoch.weights)
    whole = [value * _EPOCH_IMAGES / _MEASURED_IMAGES for value in some]
    row = f"VGG11s, FSFL, {name}: sparsify, quantise, code, beside an epoch"
    remark = f"{size} B; of {_EPOCH_IMAGES} images, computed from {_MEASURED_IMAGES}"
    return Row(row, "s", spent, whole, "peer", _SHARE, remark)


class Epoch:
    """Epochs over random images: of a module's weights, and of the scale factors of a copy."""

    def __init__(self, module: nn.Module) -> None:
        rng = np.random.default_rng(1)
        images = rng.standard_normal((_MEASURED_IMAGES, 3, 32, 32)).astype(np.float32)
        self._samples = Samples(images, rng.integers(10, size=_MEASURED_IMAGES))
        self._module = module.to(memory_format=torch.channels_last)
        self._optimizer = torch.optim.SGD(module.parameters(), 1e-3, momentum=_TRAIN.momentum)
        self._scaled = copy.deepcopy(module)
        attach_scales(self._scaled)

    def weights(self) -> float:
        """Return the seconds of an epoch in bare PyTorch."""
        inputs, targets = map(torch.from_numpy, (self._samples.inputs, self._samples.targets))
        self._module.train()
        began = time.perf_counter()
        order = torch.randperm(_MEASURED_IMAGES)
        for at in range(0, _MEASURED_IMAGES, _TRAIN.batch_size):
            index = order[at : at + _TRAIN.batch_size]
            batch = inputs[index].contiguous(memory_format=torch.channels_last)
            self._optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(F.cross_entropy(self._module(batch), targets[index]))
            self._optimizer.step()
        return time.perf_counter() - began

    def scales(self) -> float:
        """Return the seconds of all sub-epochs with their validation."""
        validation = self._samples.take(np.arange(_VALIDATION_IMAGES))
        began = time.perf_counter()
        rng = np.random.default_rng(1)
        words: dict[str, Any] = {"settings": _SCALES, "batches": _TRAIN, "task": "classification"}
        train_scales(self._scaled, self._samples, validation, rng=rng, **words)
        return time.perf_counter() - began
