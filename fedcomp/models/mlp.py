"""A multi-layer perceptron."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, MinLen

from fedcomp.models.base import ModelSettings

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class MLP(ModelSettings):
    """Linear layers with ReLU between them; 17,226 parameters on digits at the default width."""

    name: ClassVar[str] = "mlp"

    hidden: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (128, 64)

    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module."""
        from torch import nn

        widths = (prod(input_shape), *self.hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        for inner, outer in pairwise(widths):
            layers += [nn.Linear(inner, outer), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
