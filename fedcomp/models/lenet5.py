"""LeNet-5 as federated learning uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp.models.base import ModelSettings
from fedcomp.models.layers import classifier, image_shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LeNet5(ModelSettings):
    """Two 5 × 5 convolutions and three linear layers; 61,706 parameters on 28 × 28 gray images.

    LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 1998, with
    ReLU and max pooling as in FedDIP (Long et al., ICDM 2023, arXiv:2309.06805).

    conv5(6) – ReLU – pool – conv5(16) – ReLU – pool – 120 – ReLU – 84 – ReLU – linear
    """

    name: ClassVar[str] = "lenet5"

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module with torch's default initial values."""
        from torch import nn

        channels, height, width = image_shape(self.name, input_shape, least=12)
        features = [
            nn.Conv2d(channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        pixels = _last(height) * _last(width)
        head = [
            nn.Flatten(),
            nn.Linear(16 * pixels, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, outputs),
        ]
        return classifier(features, head)


def _last(side: int) -> int:
    return (side // 2 - 4) // 2
