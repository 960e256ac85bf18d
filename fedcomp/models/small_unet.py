"""A light net for segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from fedcomp.errors import ConfigError
from fedcomp.models.base import ModelSettings
from fedcomp.models.layers import he_init

if TYPE_CHECKING:
    from torch import nn

_LEVELS = 5
_STRIDE = 2 ** (_LEVELS - 1)


@dataclass(frozen=True)
class SmallUNet(ModelSettings):
    """A U-Net with few filters, padding and batch norm: logits of every pixel, (N, classes, H, W).

    Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI
    2015, arXiv:1505.04597.  486,733 parameters with 21 classes at the default width.

    w – 2w – 4w – 8w – 16w – 8w – 4w – 2w – w – linear, equal sizes joined
    """

    name: ClassVar[str] = "small_unet"

    width: Annotated[int, Ge(1)] = 8

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module; convolutions start from He's values."""
        from fedcomp.models.small_unet_module import UNetModule

        if len(input_shape) != 3 or any(side < 1 or side % _STRIDE for side in input_shape[1:]):
            msg = (
                f"model={self.name} takes images whose height and width are multiples of {_STRIDE},"
                f" the data set's inputs have the shape {input_shape}: choose another size of image"
            )
            raise ConfigError(msg)
        widths = [self.width << level for level in range(_LEVELS)]
        module = UNetModule(input_shape[0], widths, outputs)
        he_init(module)
        return module
