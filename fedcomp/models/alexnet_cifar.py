"""AlexNet for small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp.models.base import ModelSettings
from fedcomp.models.layers import classifier, image_shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class AlexNetCifar(ModelSettings):
    """Five 3 × 3 convolutions, the first of stride 2; 23,272,266 parameters on CIFAR-10.

    Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS
    2012, in the widths of FedDIP (Long et al., ICDM 2023, arXiv:2309.06805).

    64/2 – pool – 192 – pool – 384 – 256 – 256 – pool – dropout – 4096 – dropout – 4096 – linear
    """

    name: ClassVar[str] = "alexnet_cifar"

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module with torch's default initial values."""
        from torch import nn

        channels, height, width = image_shape(self.name, input_shape, least=15)
        features = [
            nn.Conv2d(channels, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 192, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        pixels = ((height + 1) // 16) * ((width + 1) // 16)
        head = [
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(256 * pixels, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, outputs),
        ]
        return classifier(features, head)
