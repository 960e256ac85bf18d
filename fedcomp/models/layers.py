"""What the model families share: the shape of images, initial values, and how a net is divided."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


def image_shape(name: str, input_shape: tuple[int, ...], least: int = 1) -> tuple[int, int, int]:
    """Return channels, height and width of inputs that a model takes.

    Examples
    --------
    >>> image_shape("lenet5", (1, 28, 28), least=12)
    (1, 28, 28)
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < least:
        msg = (
            f"model={name} takes images of at least {least} x {least} pixels, the data set's inputs"
            f" have the shape {input_shape}: choose model=mlp or larger images"
        )
        raise ConfigError(msg)
    channels, height, width = input_shape
    return channels, height, width


def classifier(features: list[nn.Module], head: list[nn.Module]) -> nn.Sequential:
    """Join feature layers and a head, which stands below `classifier` in the state dict."""
    from torch import nn

    parts = {"features": nn.Sequential(*features), "classifier": nn.Sequential(*head)}
    return nn.Sequential(OrderedDict(parts))


def he_init(module: nn.Module) -> None:
    """Draw convolutions from N(0, 2 / (k² · filters)), biases 0.

    He et al., Delving Deep into Rectifiers, ICCV 2015, arXiv:1502.01852, with the fan-out.
    """
    from torch import nn

    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
