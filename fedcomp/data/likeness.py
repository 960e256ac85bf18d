"""Images of one data set in the form in which another one stores its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from fedcomp.data.image_files import SUFFIXES, Fit, Frame, read_image
from fedcomp.data.preparation import LUMA
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.tensors import Array

_AT_A_TIME = 1 << 24
"""Values that are converted at once, give or take an image."""


def likened(images: Array, shape: tuple[int, ...], dtype: str) -> Array:
    """Return images (N, channels, height, width) in another shape and type.

    A gray channel is repeated, colours become their luma, sizes change with antialiasing, and
    0 … 255 of type uint8 stands for 0 … 1 of floats.

    Examples
    --------
    >>> likened(np.full((1, 1, 4, 4), 51, np.uint8), (3, 2, 2), "float32")[0, :, 0, 0].round(3)
    array([0.2, 0.2, 0.2], dtype=float32)
    """
    own = images.shape[1:]
    fits = len(own) == len(shape) == 3 and (own[0] in (1, shape[0]) or (own[0], shape[0]) == (3, 1))
    if not fits:
        msg = f"images of the shape {own} cannot be brought to {shape}: (channels, height, width)"
        raise DataError(msg)
    if own == shape and images.dtype == dtype:
        return np.array(images)
    found = np.empty((len(images), *shape), dtype)
    step = max(_AT_A_TIME // int(np.prod(np.maximum(own, shape))), 1)
    for start in range(0, len(images), step):
        part = images[start : start + step]
        values = part.astype(np.float32) / (255 if part.dtype == np.uint8 else 1)
        values = np.clip(_sized(_coloured(values, shape[0]), shape[1:]), 0, 1)
        found[start : start + step] = np.rint(values * 255) if dtype == "uint8" else values
    return found


def _coloured(images: Array, channels: int) -> Array:
    """Return images with so many channels."""
    if images.shape[1] == channels:
        return images
    if channels > 1:
        return np.repeat(images, channels, axis=1)
    luma = np.array(LUMA, np.float32)
    return np.asarray(np.tensordot(images, luma, (1, 0))[:, None])


def _sized(images: Array, size: tuple[int, ...]) -> Array:
    """Return images of that height and width."""
    if images.shape[2:] == size:
        return images
    import torch
    from torch.nn.functional import interpolate

    given = torch.from_numpy(np.ascontiguousarray(images))
    resized = interpolate(given, size, mode="bilinear", antialias=True, align_corners=False)
    return np.asarray(resized.numpy())


@dataclass(frozen=True)
class ImageReader:
    """Images of any files in one shape and type; `fit` as in `Frame`."""

    suffixes: ClassVar[frozenset[str]] = SUFFIXES

    shape: tuple[int, ...]
    dtype: str
    fit: Fit

    def __call__(self, path: Path) -> Array:
        """Return the image of a file."""
        channels: Literal[1, 3] = 1 if self.shape[0] == 1 else 3
        image = read_image(path, Frame(max(self.shape[1:]), self.fit, channels))
        (found,) = likened(image[None], self.shape, self.dtype)
        return np.asarray(found)
