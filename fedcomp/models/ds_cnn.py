"""The depthwise-separable net for spoken words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from fedcomp.models.base import ModelSettings
from fedcomp.models.layers import classifier, he_init, image_shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class DSCNN(ModelSettings):
    """A 10 × 4 convolution, then depthwise 3 × 3 and pointwise ones in turn.

    Zhang et al., Hello Edge: Keyword Spotting on Microcontrollers, arXiv:1711.07128: its DS-CNN-S,
    without the biases that batch norm takes out again.  The first convolution spans 10 frames and 4
    bands; 23,050 parameters with 10 classes.

    conv10×4(w)/2 – blocks × [depthwise3(w) – conv1(w)] – average – linear

    Batch norm and ReLU follow each convolution.
    """

    name: ClassVar[str] = "ds_cnn"

    width: Annotated[int, Ge(1)] = 64
    blocks: Annotated[int, Ge(1)] = 4

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module; its convolutions start from He's values, the rest from torch's."""
        from torch import nn

        channels, bands, frames = image_shape(self.name, input_shape, least=8)
        width = self.width
        convolutions = [nn.Conv2d(channels, width, (4, 10), stride=2, bias=False)]
        for _ in range(self.blocks):
            depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
            convolutions += [depthwise, nn.Conv2d(width, width, 1, bias=False)]
        # half as many frames and bands, rounded up, as TensorFlow's padding gives
        features: list[nn.Module] = [nn.ZeroPad2d((4, 4 + frames % 2, 1, 1 + bands % 2))]
        for convolution in convolutions:
            features += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        features.append(nn.AdaptiveAvgPool2d(1))
        module = classifier(features, [nn.Flatten(), nn.Linear(width, outputs)])
        he_init(module)
        return module
