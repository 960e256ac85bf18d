"""How much each weight matters: the diagonal of the empirical Fisher information.

F_j = mean over mini-batches of (∂loss / ∂w_j)²,  η_j = F_j / mean of all F
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import nn

    from fedcomp.tensors import Tensors


class SquaredGradients:
    """Sums up the squared gradients of a module's parameters.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> squares = SquaredGradients(layer)
    >>> for inputs in ([1.0, 1.0], [1.0, 1.0], [0.0, 2.0]):
    ...     layer.zero_grad()
    ...     layer(torch.tensor(inputs)).sum().backward()
    ...     squares.add()
    >>> squares.relative()["weight"].tolist()
    [[0.5, 1.5]]
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._sums = {n: torch.zeros_like(p) for n, p in self._parameters.items()}

    @torch.no_grad()
    def add(self) -> None:
        """Count the gradients that are there now."""
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                self._sums[name].addcmul_(parameter.grad, parameter.grad)

    def relative(self) -> Tensors:
        """Return η by parameter; 1 everywhere if there were no gradients."""
        found = {name: value.cpu().numpy() for name, value in self._sums.items()}
        total = sum(float(value.sum(dtype=np.float64)) for value in found.values())
        mean = total / max(sum(value.size for value in found.values()), 1)
        if mean <= 0:
            return {name: np.ones_like(value) for name, value in found.items()}
        return {name: np.asarray(value / mean, np.float32) for name, value in found.items()}
