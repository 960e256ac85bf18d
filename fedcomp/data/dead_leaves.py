"""Images of dead leaves: shapes of all sizes that hide one another, as the things of a scene do.

Lee, Mumford, Huang, "Occlusion Models for Natural Images: A Statistical Study of a Scale-Invariant
Dead Leaves Model", IJCV 41 (2001).  What networks learn from such images alone serves photographs,
too (Baradad et al., "Learning to See by Looking at Noise", NeurIPS 2021, arXiv:2106.05963).  Radii
have the density

    p(r) ∝ r⁻³    for r_min ≤ r ≤ r_max

so that the leaves of each octave of sizes are as large together as those of any other: the image
has no scale of its own, and its amplitudes fall about as 1 / frequency.  Leaves are laid from the
top down until nothing shows between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.coding.kernels import late_kernel

if TYPE_CHECKING:
    from fedcomp.tensors import Array

FINE = 2
"""Leaves are painted so many times finer than the image, whose pixels are means of theirs."""

_LEAVES = 2048
"""So many are drawn at a time."""

_DRAWN = 10
"""So many numbers are drawn for a leaf, and two for each channel."""


@dataclass(frozen=True)
class DeadLeaves:
    """Discs and turned rectangles of any colour, with a little shading.

    Parameters
    ----------
    shape, dtype
        Of an image: (channels, height, width), and uint8 for 0 … 255 or a float for 0 … 1.
    r_min
        Least radius in pixels; of a rectangle, half of its diagonal.
    r_max
        Largest radius as a share of the longer side.
    saturation
        How far the channels of a leaf's colour differ: 0 is gray, at 1 the deviations are uniform.
    tilt, ripple
        Most that the colour of a leaf changes from its middle to its rim, and in waves.
    """

    version: ClassVar[int] = 1

    shape: tuple[int, ...]
    dtype: str = "uint8"
    r_min: float = 1.5
    r_max: float = 0.5
    saturation: float = 0.7
    tilt: float = 0.15
    ripple: float = 0.1

    def __call__(self, count: int, rng: np.random.Generator) -> Array:
        """Return so many images."""
        channels, height, width = self.shape
        images = np.empty((count, *self.shape), np.float32)
        for image in images:
            canvas = np.zeros((channels, FINE * height, FINE * width), np.float32)
            bare = np.ones(canvas.shape[1:], np.bool_)
            left = bare.size
            while left:
                left -= paint(canvas, bare, self.leaves(_LEAVES, rng))
            fine = canvas.reshape(channels, height, FINE, width, FINE)
            image[:] = fine.mean(axis=(2, 4))
        if self.dtype == "uint8":
            return np.rint(images * 255).astype(np.uint8)
        return images.astype(self.dtype)

    def leaves(self, count: int, rng: np.random.Generator) -> Array:
        """Draw leaves for `paint`, the topmost first, in pixels of the canvas."""
        channels, *sides = self.shape
        largest = FINE * max(self.r_max * max(sides), self.r_min)
        u = rng.random((count, _DRAWN + 2 * channels))
        y, x = ((FINE * side + 2 * largest) * u[:, at] - largest for at, side in enumerate(sides))
        r = radii(u[:, 2], FINE * self.r_min, largest)
        turn, corner = 2 * math.pi * u[:, 3], math.pi / 8 * (1 + 2 * u[:, 4])
        half = np.where(u[:, 5] < 0.5, 0, r)  # of the diagonal; a disc has none
        waves = self.ripple * u[:, 6], math.pi * (1 + 5 * u[:, 7]) / r, 2 * math.pi * u[:, 8]
        form = y, x, r, np.cos(turn), np.sin(turn), half * np.cos(corner), half * np.sin(corner)
        hues, tilts = np.split(u[:, _DRAWN:], 2, axis=1)
        colours = u[:, 9:10] + self.saturation * (hues - hues.mean(axis=1, keepdims=True))
        return np.column_stack([*form, *waves, colours, self.tilt * (2 * tilts - 1)])


def radii(u: Array, r_min: float, r_max: float) -> Array:
    """Return the radii at quantiles `u` of the density r⁻³ between the bounds.

    P(R > r) = (r⁻² − r_max⁻²) / (r_min⁻² − r_max⁻²).

    Examples
    --------
    >>> radii(np.array([0.0, 0.75, 1.0]), 1.0, 4.0).round(3)
    array([1.   , 1.835, 4.   ])
    """
    return np.asarray((r_min**-2 * (1 - u) + r_max**-2 * u) ** -0.5)


@late_kernel
def paint(canvas: Array, bare: Array, leaves: Array) -> int:
    """Lay leaves under what covers the canvas already; return how many pixels they cover."""
    channels, height, width = canvas.shape
    covered = 0
    for at in range(len(leaves)):
        y, x, r, cos, sin, long, short, wave, pace, phase = leaves[at, :10]
        tilt = leaves[at, 10 + channels :]
        left, right = max(math.ceil(x - r), 0), min(math.floor(x + r) + 1, width)
        for i in range(max(math.ceil(y - r), 0), min(math.floor(y + r) + 1, height)):
            for j in range(left, right):
                if not bare[i, j]:
                    continue
                along, across = (i - y) * cos + (j - x) * sin, (j - x) * cos - (i - y) * sin
                if long > 0:
                    inside = abs(along) <= long and abs(across) <= short
                else:
                    inside = along * along + across * across <= r * r
                if inside:
                    bare[i, j] = False
                    covered += 1
                    shade = wave * math.sin(pace * across + phase)
                    for c in range(channels):
                        value = leaves[at, 10 + c] + tilt[c] * along / r + shade
                        canvas[c, i, j] = min(max(value, 0.0), 1.0)
        if covered == bare.size:
            break
    return covered
