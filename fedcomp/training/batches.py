"""From stored samples to a model's inputs: whole batches at a time, on the device that computes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from fedcomp.data.preparation import IGNORED, LUMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from fedcomp.data.base import Samples
    from fedcomp.data.preparation import Augment
    from fedcomp.tensors import Array

_LARGEST_EVALUATION = 1024
_EVALUATION_VALUES = 1 << 18  # what small nets make of it still fits a processor's caches


class Batches:
    """The samples of one client or test set, prepared batch by batch.

    Parameters
    ----------
    samples
        Those to train on stay as they are stored, on the device.
    channels_last
        Memory layout of images.
    """

    def __init__(self, samples: Samples, device: torch.device, *, channels_last: bool) -> None:
        self._samples = samples
        self._device = device
        preparation = samples.preparation
        self._scale = 1 / 255 if samples.inputs.dtype == np.uint8 else 1.0
        self._mean = _channels(preparation.mean, device)
        self._std = _channels(preparation.std, device)
        self._augment = preparation.augment
        self._repeat = preparation.channels if samples.inputs.shape[1:2] == (1,) else None
        self._channels_last = channels_last and samples.inputs.ndim == 4

    @cached_property
    def _stored(self) -> tuple[Tensor, Tensor]:
        return self._tensor(self._samples.inputs), self._tensor(self._samples.targets)

    def _tensor(self, values: Array) -> Tensor:
        """Return a copy of values on the device; what a model does to it harms nobody."""
        return torch.from_numpy(np.array(values, order="C")).to(self._device)

    def training(self, index: Array, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the samples at `index`, changed at random, and their targets."""
        at = torch.from_numpy(index).to(self._device)
        inputs, targets = (values[at] for values in self._stored)
        augment = self._augment
        if augment.crop or augment.flip:
            inputs, targets = move(inputs, targets, augment, rng)
        inputs = self._scaled(inputs)
        if augment.jitter:
            inputs = jitter(inputs, augment.jitter, rng)
        inputs = self._normalised(inputs)
        if augment.cutout:
            inputs = cutout(inputs, augment.cutout, rng)
        return self._laid_out(inputs), targets

    def evaluation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all samples in order, as they are."""
        stored, wanted = self._samples.inputs, self._samples.targets
        values = stored[:1].size * (self._repeat or 1)
        size = max(min(_LARGEST_EVALUATION, _EVALUATION_VALUES // max(values, 1)), 1)
        for at in range(0, len(stored), size):
            inputs = self._scaled(self._tensor(stored[at : at + size]))
            targets = self._tensor(wanted[at : at + size])
            yield self._laid_out(self._normalised(inputs)), targets

    def _scaled(self, inputs: Tensor) -> Tensor:
        """Return floats, those of images from 0 to 1, in as many channels as the model takes."""
        if self._scale != 1:
            inputs = inputs.to(torch.float32) * self._scale
        return inputs if self._repeat is None else inputs.expand(-1, self._repeat, -1, -1)

    def _normalised(self, inputs: Tensor) -> Tensor:
        if self._mean is None or self._std is None:
            return inputs
        return (inputs - self._mean) / self._std

    def _laid_out(self, inputs: Tensor) -> Tensor:
        form = torch.channels_last if self._channels_last else torch.contiguous_format
        return inputs.contiguous(memory_format=form)


def move(
    inputs: Tensor, targets: Tensor, augment: Augment, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cut each image out of its padded self and mirror some; targets that are images follow."""
    count, _, height, width = inputs.shape
    pad = augment.crop
    top, left = rng.integers(0, 2 * pad + 1, size=(2, count))
    rows = top[:, None] + np.arange(height)
    columns = left[:, None] + np.arange(width)
    if augment.flip:
        columns = np.where(rng.random(count)[:, None] < 0.5, columns[:, ::-1], columns)
    flat = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]
    at = torch.from_numpy(flat.reshape(count, 1, -1)).to(inputs.device)

    def cut(images: Tensor, fill: int) -> Tensor:
        padded = F.pad(images, (pad, pad, pad, pad), value=fill).flatten(2)
        return padded.gather(2, at.expand(-1, images.shape[1], -1)).reshape(images.shape)

    if targets.ndim == 3:
        targets = cut(targets[:, None], IGNORED)[:, 0]
    return cut(inputs, 0), targets


def jitter(images: Tensor, most: float, rng: np.random.Generator) -> Tensor:
    """Scale brightness, then contrast, then saturation of images with values from 0 to 1."""
    drawn = rng.uniform(max(0.0, 1 - most), 1 + most, size=(3, len(images), 1, 1, 1))
    factors = torch.from_numpy(drawn.astype(np.float32)).to(images.device)
    images = (images * factors[0]).clamp(0, 1)
    images = _blend(images, _gray(images).mean(dim=(2, 3), keepdim=True), factors[1])
    return _blend(images, _gray(images), factors[2]) if images.shape[1] == 3 else images


def cutout(inputs: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Set a square to 0, cut off at the image's edge where it reaches over it."""
    count, _, height, width = inputs.shape

    def band(extent: int) -> Array:
        start = rng.integers(0, extent, size=(count, 1)) - size // 2
        at = np.arange(extent)
        return np.asarray((at >= start) & (at < start + size))

    inside = band(height)[:, None, :, None] & band(width)[:, None, None, :]
    return inputs.masked_fill(torch.from_numpy(inside).to(inputs.device), 0)


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def _gray(images: Tensor) -> Tensor:
    """Return the luma of ITU-R BT.601."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    weights = torch.tensor(LUMA, device=images.device).reshape(-1, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor | None:
    return torch.tensor(values, device=device).reshape(-1, 1, 1) if values else None
