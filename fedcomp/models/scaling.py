"""Scale factors of FSFL: one for each filter of a convolution, each output of a linear layer.

    W_eff = S ⊙ W, S = 1 at the start; biases and norms have none

They are attached to any module from outside, as parametrisations, and folded into its weights when
the model leaves.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from fedcomp.tensors import Tensors

_ORIGINAL = ".parametrizations.weight.original"
_SCALE = ".parametrizations.weight.0.scale"


class Scale(nn.Module):
    """W ↦ S ⊙ W.

    Parameters
    ----------
    outputs
        Length of the axis of outputs.
    axis, ndim
        Which axis of how many that is.
    """

    def __init__(self, outputs: int, axis: int, ndim: int) -> None:
        super().__init__()
        shape = [1] * ndim
        shape[axis] = outputs
        self.scale = nn.Parameter(torch.ones(shape))

    def forward(self, weight: Tensor) -> Tensor:
        """Return scaled weights."""
        return weight * self.scale


def attach_scales(module: nn.Module) -> None:
    """Give every convolution and linear layer its scale factors."""
    for part in list(module.modules()):
        if isinstance(part, nn.modules.conv._ConvTransposeNd):
            outputs, axis = part.weight.shape[1], 1
        elif isinstance(part, nn.modules.conv._ConvNd | nn.Linear):
            outputs, axis = part.weight.shape[0], 0
        else:
            continue
        scale = Scale(outputs, axis, part.weight.ndim).to(part.weight.device)
        parametrize.register_parametrization(part, "weight", scale)


def scales_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return a module's scale factors by name."""
    return {n: p for n, p in module.named_parameters() if n.endswith(_SCALE)}


def scale_names(names: Iterable[str]) -> dict[str, str]:
    """Return the names of scale factors by that of their weights, where both are there.

    Examples
    --------
    >>> scale_names(["0.bias", f"0{_ORIGINAL}", f"0{_SCALE}", f"1{_ORIGINAL}"])
    {'0.parametrizations.weight.original': '0.parametrizations.weight.0.scale'}
    """
    known = set(names)
    found = {name: name.removesuffix(_ORIGINAL) + _SCALE for name in names}
    return {n: s for n, s in found.items() if n.endswith(_ORIGINAL) and s in known}


@contextmanager
def only(parameters: Iterable[nn.Parameter], module: nn.Module) -> Iterator[None]:
    """Let gradients reach these parameters of a module and no others, for a while."""
    chosen = {id(parameter) for parameter in parameters}
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        for parameter, trained in before:
            parameter.requires_grad_(trained and id(parameter) in chosen)
        yield
    finally:
        for parameter, trained in before:
            parameter.requires_grad_(trained)


def folded(tensors: Tensors) -> Tensors:
    """Return the tensors of the plain model, the scale factors multiplied into its weights.

    Examples
    --------
    >>> original, scale = np.ones((2, 3), np.float32), np.array([[1], [2]], np.float32)
    >>> scaled = {"0.bias": np.zeros(2), f"0{_ORIGINAL}": original, f"0{_SCALE}": scale}
    >>> {name: value.tolist() for name, value in folded(scaled).items()}
    {'0.bias': [0.0, 0.0], '0.weight': [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]}
    """
    out: Tensors = {}
    for name, value in tensors.items():
        layer = name.removesuffix(_ORIGINAL)
        if layer != name:
            out[f"{layer}.weight"] = np.asarray(value * tensors[layer + _SCALE])
        elif not name.endswith(_SCALE):
            out[name] = value
    return out
