"""Down, up, and across between equal sizes; imports torch."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UNetModule(nn.Module):
    """Two convolutions a level on the way down, and two on the way up with what came across."""

    def __init__(self, channels: int, widths: list[int], outputs: int) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        self.down = nn.ModuleList(_twice(*step) for step in pairwise([channels, *widths]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(steps))
        self.merge = nn.ModuleList(_twice(2 * a, a) for a, _ in reversed(steps))
        self.head = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of every pixel."""
        across: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            across.append(x)
        for up, merge, kept in zip(self.up, self.merge, reversed(across[:-1]), strict=True):
            x = merge(torch.cat((kept, up(x)), dim=1))
        logits: Tensor = self.head(x)
        return logits


def _twice(inner: int, outer: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inner, outer):
        layers.append(nn.Conv2d(channels, outer, 3, padding=1, bias=False))
        layers += [nn.BatchNorm2d(outer), nn.ReLU()]
    return nn.Sequential(*layers)
