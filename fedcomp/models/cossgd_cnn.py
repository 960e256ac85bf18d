"""The convolutional net of CosSGD's experiments on CIFAR-10."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp.models.base import ModelSettings
from fedcomp.models.layers import classifier, image_shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CosSGDCNN(ModelSettings):
    """Three 3 × 3 convolutions without padding; 122,570 parameters on 32 × 32 colour images.

    He et al., CosSGD: Communication-Efficient Federated Learning with a Simple Cosine-Based
    Quantization, arXiv:2012.08241.

    conv(32) – ReLU – pool – conv(64) – ReLU – pool – conv(64) – ReLU – 64 – ReLU – linear
    """

    name: ClassVar[str] = "cossgd_cnn"

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module with torch's default initial values."""
        from torch import nn

        channels, height, width = image_shape(self.name, input_shape, least=18)
        features = [
            nn.Conv2d(channels, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
        ]
        pixels = _last(height) * _last(width)
        head = [nn.Flatten(), nn.Linear(64 * pixels, 64), nn.ReLU(), nn.Linear(64, outputs)]
        return classifier(features, head)


def _last(side: int) -> int:
    return ((side - 2) // 2 - 2) // 2 - 2
