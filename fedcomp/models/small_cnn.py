"""A small convolutional net for small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from fedcomp.models.base import ModelSettings
from fedcomp.models.layers import image_shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SmallCNN(ModelSettings):
    """Two 3 × 3 convolutions with pooling, then two linear layers.

    conv(width) – ReLU – pool – conv(2·width) – ReLU – pool – linear(hidden) – ReLU – linear
    """

    name: ClassVar[str] = "small_cnn"

    width: Annotated[int, Ge(1)] = 16
    hidden: Annotated[int, Ge(1)] = 64

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module."""
        from torch import nn

        channels, height, width = image_shape(self.name, input_shape, least=4)
        inner, outer = self.width, 2 * self.width
        return nn.Sequential(
            nn.Conv2d(channels, inner, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(inner, outer, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(outer * (height // 4) * (width // 4), self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, outputs),
        )
