"""How much each weight adds to what a net says of the true classes: layer-wise relevance.

    R_w = w ⊙ ∂z/∂w · R_z / (z + ε·sign z),  R ← (1 − α)·R_new + α·R_before

as ECQˣ scores weights: Becking et al., "ECQˣ: Explainability-Driven Quantization for Low-Bit and
Sparse DNNs", xxAI 2020, arXiv:2109.04236.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from fedcomp.data.preparation import IGNORED
from fedcomp.training.relevance_graph import ACTIVATIONS, NORMS, executed
from fedcomp.training.relevance_rules import (
    EPSILON,
    Rule,
    alpha2_beta1,
    epsilon,
    flat,
    gate,
    is_gated,
    merged,
    operation,
    pass_on,
    standardised,
    z_plus,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fedcomp.training.settings import RelevanceSettings

_OF_CONVOLUTIONS: dict[str, Rule] = {
    "epsilon_plus_flat": z_plus,
    "epsilon_flat": epsilon,
    "alpha2_beta1_flat": alpha2_beta1,
}


class Found(NamedTuple):
    """What a pass finds.

    Attributes
    ----------
    weights
        R_w by the name of a parameter, of those that have two dimensions or more and took part.
    inputs
        Relevance of each input value, where all of it goes through the net's first layer.
    total
        Relevance that the outputs began with.
    """

    weights: dict[str, Tensor]
    inputs: Tensor
    total: float


class Relevance:
    """Relevance of a module's weights, as a copy with other layers finds it.

    Layers, norms and activations that are modules of torch are treated as `relevance_rules` says,
    whatever else the net computes by gradient times input: so sums, pooling and ReLU conserve
    relevance; products of two inputs, attention, and activations that are functions do not.  Gates
    of torchvision's squeeze-and-excitation count as constants, and their weights have none.

    Parameters
    ----------
    example
        An input, with as many samples as you like, that shows which layer comes first and which
        batch norm follows which.

    Examples
    --------
    >>> from fedcomp.training.settings import RelevanceSettings
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2, bias=False))
    >>> net[0].weight.data = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    >>> net[0].bias.data = torch.zeros(2)
    >>> net[2].weight.data = torch.tensor([[5.0, 6.0], [-7.0, 8.0]])
    >>> relevance = Relevance(net, torch.ones(1, 2), RelevanceSettings())
    >>> found = relevance.of(net, torch.ones(1, 2), torch.tensor([0]), "classification")
    >>> [found.weights[name][0].round(decimals=3).tolist() for name in ("0.weight", "2.weight")]
    [[5.0, 10.0], [15.0, 0.0]]
    >>> found.inputs.round(decimals=3).tolist(), found.total
    ([[7.5, 7.5]], 15.0)
    """

    def __init__(self, module: nn.Module, example: Tensor, settings: RelevanceSettings) -> None:
        self._start = settings.start
        # hooks before a pass belong to whoever trains, those after it may make the outputs
        hooks = ("_forward_pre_hooks", "_backward_pre_hooks", "_backward_hooks")
        without: dict[int, Any] = {
            id(part.__dict__[name]): type(part.__dict__[name])()
            for part in module.modules()
            for name in hooks
        }
        self._twin = deepcopy(module, without).eval()
        for part in self._twin.modules():
            if hasattr(part, "inplace"):
                part.inplace = False  # type: ignore[assignment]
        self._canonise(example, settings)
        self._twin.to("meta")  # only its structure counts from here

    def _canonise(self, example: Tensor, settings: RelevanceSettings) -> None:
        order = executed(self._twin, example)
        norms = order.norms if settings.batch_norm == "merge" else {}
        for layer in order.layers:
            dense = isinstance(layer, nn.Linear)
            rule = epsilon if dense else _OF_CONVOLUTIONS[settings.composite]
            rule = flat if layer is order.first else rule
            _replace(layer, partial(_layer, layer, norms.get(layer), rule))
        for norm in norms.values():
            _replace(norm, nn.Identity().forward)
        for part in self._twin.modules():
            if isinstance(part, (*NORMS, *ACTIVATIONS)) and part not in norms.values():
                raw, forward = part in order.early, type(part).forward
                if forward in (nn.LayerNorm.forward, nn.GroupNorm.forward) and not raw:
                    _replace(part, partial(standardised, part))
                else:
                    _replace(part, partial(_pass, part, forward, raw))
            elif is_gated(part):
                _replace(part, partial(gate, part))

    def of(
        self,
        module: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        task: str,
        behind: Mapping[str, Tensor] | None = None,
    ) -> Found:
        """Return the relevances for a batch with the values that the module has now.

        Nothing of the module changes.  Hooks before a pass are not called; those after it, which
        may make the outputs, are, as they were when this was made.

        Parameters
        ----------
        behind
            Parameters that count as w in R_w in the place of the module's own, where that is
            quantised: a weight that became 0 has no other relevance than what it would add.
        """
        state: dict[str, Tensor] = {
            name: b.clone() for name, b in module.named_buffers(remove_duplicate=False)
        }
        weights: dict[str, Tensor] = {}
        for name, parameter in module.named_parameters():
            state[name] = value = parameter.detach()
            if value.ndim > 1 and value.is_floating_point():
                weights[name] = value.requires_grad_()
        source = inputs.detach().clone().requires_grad_()
        with torch.enable_grad():
            outputs: Tensor = torch.func.functional_call(self._twin, state, (source,))
        relevance = start(outputs.detach(), targets, task, self._start)
        wanted = [source, *weights.values()]
        given = outputs.detach()
        of_outputs = relevance / torch.where(given == 0, EPSILON, given)
        of_inputs, *gradients = torch.autograd.grad(outputs, wanted, of_outputs, allow_unused=True)
        whole = {**weights, **(behind or {})}
        return Found(
            {
                name: gradient * whole[name].detach()
                for name, gradient in zip(weights, gradients, strict=True)
                if gradient is not None
            },
            torch.zeros_like(inputs) if of_inputs is None else of_inputs,
            float(relevance.sum(dtype=torch.float64)),
        )


class Averaged:
    """Relevances of one pass after another, each with a share of those before, if it is finite.

    Examples
    --------
    >>> averaged = Averaged(0.1)
    >>> for value in (1.0, 2.0):
    ...     averaged.add({"weight": torch.tensor([value])})
    >>> round(averaged.weights["weight"].item(), 3)
    1.9
    """

    def __init__(self, momentum: float) -> None:
        self._momentum = momentum
        self.weights: dict[str, Tensor] = {}

    def add(self, found: Mapping[str, Tensor]) -> None:
        """Take the relevances of a pass; the first of a name counts as they are."""
        before = self.weights
        sound = {n: v for n, v in found.items() if bool(v.isfinite().all())}
        new = {n: v.lerp(before.get(n, v), self._momentum) for n, v in sound.items()}
        self.weights = {**before, **new}


def start(outputs: Tensor, targets: Tensor, task: str, kind: str) -> Tensor:
    """Return the relevance of the outputs: that of all true classes, divided by the batch size.

    Segmentation divides by the pixels that belong to a class.
    """
    if task.startswith("multilabel"):
        true, chances = targets > 0, outputs.sigmoid
        count = torch.tensor(len(targets))
    else:
        counted = targets != IGNORED if task == "segmentation" else torch.ones_like(targets) > 0
        classes = F.one_hot(targets.to(torch.int64) * counted, outputs.shape[1])
        true = (classes > 0).movedim(-1, 1) & counted.unsqueeze(1)
        chances = partial(outputs.softmax, 1)
        count = counted.sum().clamp(min=1)
    if kind == "ones":
        values = torch.ones_like(outputs)
    else:
        values = chances() if kind == "probability" else outputs
    return torch.where(true, values, 0) / count.to(outputs)


def _replace(part: nn.Module, forward: Any) -> None:
    part.forward = forward


def _layer(
    layer: nn.Module,
    norm: nn.modules.batchnorm._BatchNorm | None,
    rule: Rule,
    input: Tensor,  # noqa: A002  as torch's layers name it
    *options: Any,
) -> Tensor:
    return rule(operation(layer, *options), input, *merged(layer, norm))


def _pass(part: nn.Module, forward: Any, raw: bool, input: Tensor) -> Tensor:  # noqa: A002
    with torch.no_grad():
        y: Tensor = forward(part, input)
    return pass_on(input, y, raw=raw)
