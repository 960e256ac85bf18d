"""What makes a model's inputs of stored samples; plain values, so that nothing heavy loads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le

Numbers = tuple[float, ...]

IGNORED = 255
"""The class of a pixel that belongs to none, or that lies outside the image."""

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Means and deviations of ImageNet's colours, as torchvision's models take them."""

LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue count in gray (ITU-R BT.601), as PIL has it."""


@dataclass(frozen=True)
class Augment:
    """Random changes of each training image, drawn anew in each epoch.

    Parameters
    ----------
    crop
        Pad by so many pixels (of value 0) on each side and cut the old size out anywhere.
    flip
        Mirror every second image left to right.
    jitter
        Scale brightness, contrast and saturation, each by a factor from 1 ± jitter.
    cutout
        Blank a square of so many pixels a side, its centre anywhere (DeVries and Taylor,
        arXiv:1708.04552).
    """

    crop: Annotated[int, Ge(0), Le(64)] = 0
    flip: bool = False
    jitter: Annotated[float, Ge(0), Le(1)] = 0.0
    cutout: Annotated[int, Ge(0), Le(512)] = 0


@dataclass(frozen=True)
class Preparation:
    """Stored values v become (v − mean) / std by channel, those of type uint8 after v / 255.

    Attributes
    ----------
    mean, std
        One value a channel; none at all: v stays as it is.
    channels
        A single channel is repeated to be so many.
    augment
        Changes of training images.
    """

    mean: Numbers = ()
    std: Numbers = ()
    channels: Literal[1, 3] | None = None
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(value > 0 for value in self.std):
            msg = f"mean {self.mean} and std {self.std} need one positive std for each mean"
            raise ValueError(msg)

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one input that is stored in the shape given."""
        repeated = self.channels is not None and stored[0] == 1
        return (self.channels or 1, *stored[1:]) if repeated else tuple(stored)
