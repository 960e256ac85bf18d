"""A small convolutional net for small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from fedcomp.errors import ConfigError
from fedcomp.models.base import ModelSettings

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

        if len(input_shape) != 3 or min(input_shape[1:]) < 4:
            msg = (
                f"model=small_cnn takes images of at least 4 x 4 pixels, the data set's inputs have"
                f" the shape {input_shape}: choose model=mlp"
            )
            raise ConfigError(msg)
        channels, height, width = input_shape
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
