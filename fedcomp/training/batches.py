"""From stored samples to a model's inputs: whole batches at a time, on the device that computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from fedcomp.data.base import Samples
    from fedcomp.data.preparation import Augment
    from fedcomp.tensors import Array

IGNORED = 255
"""The class of a pixel that belongs to none, or that lies outside the image."""

_LARGEST_EVALUATION = 1024
_EVALUATION_VALUES = 1 << 24
_GRAY = (0.299, 0.587, 0.114)


class Batches:
    """The samples of one client or test set, prepared batch by batch.

    Parameters
    ----------
    samples
        Stay as they are stored, on the device.
    channels_last
        Memory layout of images.
    """

    def __init__(self, samples: Samples, device: torch.device, *, channels_last: bool) -> None:
        self._inputs = _tensor(samples.inputs, device)
        self._targets = _tensor(samples.targets, device)
        preparation = samples.preparation
        scale = 1 / 255 if self._inputs.dtype == torch.uint8 else 1.0
        self._scale = scale
        self._mean = _channels(preparation.mean, device)
        self._std = _channels(preparation.std, device)
        self._augment = preparation.augment
        self._repeat = preparation.channels if self._inputs.shape[1:2] == (1,) else None
        self._channels_last = channels_last and self._inputs.ndim == 4

    def training(self, index: Array, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the samples at `index`, changed at random, and their targets."""
        at = torch.from_numpy(index).to(self._inputs.device)
        inputs, targets = self._inputs[at], self._targets[at]
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
        values = self._inputs[:1].numel() * (self._repeat or 1)
        size = max(min(_LARGEST_EVALUATION, _EVALUATION_VALUES // max(values, 1)), 1)
        parts = torch.split(self._inputs, size), torch.split(self._targets, size)
        for inputs, targets in zip(*parts, strict=True):
            yield self._laid_out(self._normalised(self._scaled(inputs))), targets

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
    weights = torch.tensor(_GRAY, device=images.device).reshape(-1, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _channels(values: tuple[float, ...], device: torch.device) -> Tensor | None:
    return torch.tensor(values, device=device).reshape(-1, 1, 1) if values else None


def _tensor(values: Array, device: torch.device) -> Tensor:
    """Return the values on a device; those of a read-only map are copied, torch would warn."""
    array = np.ascontiguousarray(values)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)
