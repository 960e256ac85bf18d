"""ImageNet's residual nets with a stem for small images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp.models.base import ModelSettings
from fedcomp.models.layers import he_init, image_shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class _ResNetStem(ModelSettings):
    """Torchvision's net, its stem a 3 × 3 convolution of stride 1 without pooling.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385; the stem
    is the one of FedDIP (Long et al., ICDM 2023, arXiv:2309.06805).

    conv(64) – stages of stride 1, 2, 2, 2 – average – linear
    """

    deep: ClassVar[str]

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module; its convolutions start from He's values, the rest from torch's."""
        from torch import nn
        from torchvision.models import get_model

        channels, _, _ = image_shape(self.name, input_shape)
        module: nn.Module = get_model(self.deep, weights=None, num_classes=outputs)
        stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        he_init(stem)
        module.conv1, module.maxpool = stem, nn.Identity()
        return module


@dataclass(frozen=True)
class ResNet18Cifar(_ResNetStem):
    """18 layers; 11,220,132 parameters with 100 classes."""

    name: ClassVar[str] = "resnet18_cifar"
    deep: ClassVar[str] = "resnet18"


@dataclass(frozen=True)
class ResNet50Cifar(_ResNetStem):
    """50 layers; 23,705,252 parameters with 100 classes."""

    name: ClassVar[str] = "resnet50_cifar"
    deep: ClassVar[str] = "resnet50"
