"""VGG nets for small images, with the short head that is usual on CIFAR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fedcomp.models.base import ModelSettings
from fedcomp.models.layers import classifier, he_init, image_shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class _VGG(ModelSettings):
    """Blocks of 3 × 3 convolutions with ReLU, max pooling after each, three linear layers.

    Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
    ICLR 2015, arXiv:1409.1556.  Pooling rounds up and ends in a global average, which changes
    nothing up to 32 × 32 pixels: any size of image fits, and the parameters do not depend on it.
    """

    blocks: ClassVar[tuple[tuple[int, ...], ...]]

    batch_norm: bool = False

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module; convolutions start from He's values, linear layers from torch's."""
        from torch import nn

        inner, _, _ = image_shape(self.name, input_shape)
        features: list[nn.Module] = []
        for block in self.blocks:
            for outer in block:
                features.append(nn.Conv2d(inner, outer, 3, padding=1))
                features += [nn.BatchNorm2d(outer)] if self.batch_norm else []
                features.append(nn.ReLU())
                inner = outer
            features.append(nn.MaxPool2d(2, ceil_mode=True))
        features.append(nn.AdaptiveAvgPool2d(1))
        head = [
            nn.Flatten(),
            nn.Linear(inner, inner),
            nn.ReLU(),
            nn.Linear(inner, inner),
            nn.ReLU(),
            nn.Linear(inner, outputs),
        ]
        module = classifier(features, head)
        he_init(module)
        return module


@dataclass(frozen=True)
class VGG11s(_VGG):
    """The thin VGG11 of Sattler et al., IEEE TNNLS 2020, arXiv:1903.02891; 865,482 parameters.

    32 – 64 – 128 128 – 128 128 – 128 128 – 128 – 128 – linear
    """

    name: ClassVar[str] = "vgg11s"
    blocks: ClassVar[tuple[tuple[int, ...], ...]] = ((32,), (64,), *((128, 128),) * 3)


@dataclass(frozen=True)
class VGG11Cifar(_VGG):
    """VGG11 with a head of 512 – 512; 9,750,922 parameters with 10 classes.

    64 – 128 – 256 256 – 512 512 – 512 512 – 512 – 512 – linear
    """

    name: ClassVar[str] = "vgg11_cifar"
    blocks: ClassVar[tuple[tuple[int, ...], ...]] = ((64,), (128,), (256,) * 2, *((512,) * 2,) * 2)


@dataclass(frozen=True)
class VGG16Cifar(_VGG):
    """VGG16 with a head of 512 – 512; 15,245,130 parameters with 10 classes.

    64 64 – 128 128 – 256 256 256 – 512 512 512 – 512 512 512 – 512 – 512 – linear
    """

    name: ClassVar[str] = "vgg16_cifar"
    blocks: ClassVar[tuple[tuple[int, ...], ...]] = (
        *((64,) * 2, (128,) * 2, (256,) * 3),
        *((512,) * 3,) * 2,
    )
