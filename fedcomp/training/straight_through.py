"""Forward passes see other values of some parameters; the steps move the parameters themselves.

Bengio, Léonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
Conditional Computation", arXiv:1308.3432: g = ∂loss/∂f(w),  w ← w − η·g
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from torch import Tensor, nn


class StraightThrough(ABC):
    """While it is entered, a module computes with f(w) in the place of some parameters w.

    `before_step` has to be called between gradients and step.
    """

    def __init__(self, module: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
        self._module = module
        self._parameters = list(parameters)
        self._whole: dict[nn.Parameter, Tensor] = {}
        self._swapped = False

    @abstractmethod
    def swap(self, parameter: nn.Parameter) -> None:
        """Put f(w) in the place of w."""

    @torch.no_grad()
    def __enter__(self) -> Self:
        self._whole = {parameter: parameter.clone() for parameter in self._parameters}
        self._hook = self._module.register_forward_pre_hook(self._swap)
        return self

    @torch.no_grad()
    def __exit__(self, *error: object) -> None:
        self._hook.remove()
        self._restore()

    @torch.no_grad()
    def before_step(self) -> None:
        """Put w back."""
        self._restore()

    @torch.no_grad()
    def _swap(self, _module: nn.Module, _inputs: Any) -> None:
        if self._swapped:  # a second pass before the step
            return
        for parameter in self._parameters:
            if self._whole[parameter].device != parameter.device:  # the module has moved meanwhile
                self._whole[parameter] = self._whole[parameter].to(parameter.device)
            self._whole[parameter].copy_(parameter)
            self.swap(parameter)
        self._swapped = True

    def _restore(self) -> None:
        if self._swapped:
            for parameter, whole in self._whole.items():
                parameter.copy_(whole)
        self._swapped = False
