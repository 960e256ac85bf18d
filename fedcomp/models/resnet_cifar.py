"""The residual nets that were made for CIFAR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp.models.base import ModelSettings
from fedcomp.models.layers import he_init, image_shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class _ResNetCifar(ModelSettings):
    """Three stages of n blocks of two 3 × 3 convolutions, 6n + 2 layers in all.

    He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385, with
    shortcuts without parameters (option A).

    conv(16) – n × 16 – n × 32/2 – n × 64/2 – average – linear
    """

    blocks: ClassVar[int]

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module; its convolutions start from He's values, the rest from torch's."""
        from fedcomp.models.resnet_cifar_module import ResNetModule

        channels, _, _ = image_shape(self.name, input_shape)
        module = ResNetModule(channels, self.blocks, outputs)
        he_init(module)
        return module


@dataclass(frozen=True)
class ResNet20(_ResNetCifar):
    """Three blocks a stage; 269,722 parameters with 10 classes."""

    name: ClassVar[str] = "resnet20"
    blocks: ClassVar[int] = 3


@dataclass(frozen=True)
class ResNet56(_ResNetCifar):
    """Nine blocks a stage; 853,018 parameters with 10 classes."""

    name: ClassVar[str] = "resnet56"
    blocks: ClassVar[int] = 9
