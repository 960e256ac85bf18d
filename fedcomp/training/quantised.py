"""Training at Q(w), few levels a layer chosen by entropy and relevance, as in ECQ and ECQ^x.

    g = ∂loss / ∂Q(w),  dw_i = |Q(w)_i|·g_i where Q(w)_i ≠ 0, else g_i

Becking, Dreyer, Samek, Müller and Lapuschkin, "ECQ^x: Explainability-Driven Quantization for
Low-Bit and Sparse DNNs", arXiv:2109.04236.  There, as in its code, g is multiplied by the level
itself, which for negative ones would lead uphill; in Trained Ternary Quantization (Zhu et al.,
ICLR 2017, arXiv:1612.01064), where the rule is from, the factor is the level's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from fedcomp.codecs import assignment
from fedcomp.codecs.arrays import finite
from fedcomp.training.straight_through import StraightThrough

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from fedcomp.codecs.assignment import Bound
    from fedcomp.codecs.grid import Grid
    from fedcomp.tensors import Array, Tensors


class Layer(NamedTuple):
    """The grid of a layer, and what a bit costs there: γ·δ."""

    grid: Grid
    gamma: float
    bound: Bound = "min"


class Relevant(NamedTuple):
    """What gives the relevance of parameters, and by how much it may lower the share of zeros.

    Attributes
    ----------
    measure
        Called before each step with the module, which is quantised then, and the weights behind
        its levels; returns the same mapping as long as there is nothing new.
    """

    measure: Callable[[nn.Module, Mapping[str, Tensor]], Mapping[str, Tensor]]
    intensity: float


class QuantisedSteps(StraightThrough):
    """While it is entered, a module computes with levels times steps.

    Parameters
    ----------
    layers
        Those to quantise, by parameter.
    relevant
        What weights matter to; without it all count alike.
    scaled
        Whether gradients are multiplied by the size of the level.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Mapping[str, Layer],
        *,
        relevant: Relevant | None = None,
        scaled: bool = True,
    ) -> None:
        known = dict(module.named_parameters(remove_duplicate=False))
        self._names: dict[nn.Parameter, list[str]] = {}
        for name in layers:  # of a weight that two layers share there are two
            self._names.setdefault(known[name], []).append(name)
        super().__init__(module, self._names)
        self._layers = layers
        self._relevant = relevant
        self._scaled = scaled
        self._relevances: Tensors = {}
        self._measured: Mapping[str, Tensor] | None = None

    def swap(self, parameter: nn.Parameter) -> None:
        """Put Q(w) in the place of w."""
        found = torch.from_numpy(self._quantised(parameter)).to(parameter)
        parameter.copy_(found)

    def before_step(self) -> None:
        """Measure relevance, put w back, and scale its gradient."""
        if self._relevant is not None:
            behind = {n: self._whole[p] for p, names in self._names.items() for n in names}
            found = self._relevant.measure(self._module, behind)
            if found is not self._measured:
                self._measured = found
                self.spare(found)
        if self._scaled:
            with torch.no_grad():
                for parameter in self._names:
                    if parameter.grad is not None and self._swapped:
                        parameter.grad.mul_(torch.where(parameter == 0, 1, parameter.abs()))
        super().before_step()

    def spare(self, relevances: Mapping[str, Tensor]) -> None:
        """Choose levels by these relevances from now on."""
        self._relevances = {n: v.detach().cpu().numpy() for n, v in relevances.items()}

    @torch.no_grad()
    def quantised(self) -> Tensors:
        """Return Q(w) of all layers, outside the context."""
        made = {parameter: self._quantised(parameter) for parameter in self._names}
        return {n: made[parameter] for parameter, names in self._names.items() for n in names}

    def _quantised(self, parameter: nn.Parameter) -> Array:
        name, *others = self._names[parameter]
        grid, gamma, bound = self._layers[name]
        values = finite(name, parameter.detach().cpu().numpy())
        priced = assignment.costs(values, grid, gamma, bound)
        measured = (self._relevances.get(n) for n in (name, *others))
        relevance = next((found for found in measured if found is not None), None)
        if relevance is None or self._relevant is None:
            levels = assignment.assign(values, priced)
        else:
            intensity = self._relevant.intensity
            levels = assignment.assign_relevant(values, priced, relevance, intensity)
        return np.asarray(levels * np.float64(grid.step), values.dtype)
