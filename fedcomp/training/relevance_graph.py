"""Which layers a net goes through for relevance, in which order, and what follows on what."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor
    from torch.autograd.graph import Node

BatchNorm: TypeAlias = nn.modules.batchnorm._BatchNorm

_LAYERS = (
    nn.Linear,
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
ACTIVATIONS = (
    *(nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh),
    *(nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.PReLU, nn.RReLU, nn.SELU, nn.SiLU, nn.Sigmoid),
    *(nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold),
)
"""Element by element, and other than ReLU."""


class Executed(NamedTuple):
    """What ran for an example.

    Attributes
    ----------
    layers
        Linear layers and convolutions, in the order of their first runs.
    first
        The first of them, if it runs once and nothing else with weights runs before it.
    norms
        Batch norms by the layer that each can be merged into: it runs right after it, both once,
        and nothing else takes what the layer gives.
    early
        Norms and activations that ran before the first layer.
    """

    layers: list[nn.Module]
    first: nn.Module | None
    norms: dict[nn.Module, BatchNorm]
    early: set[nn.Module]


def executed(net: nn.Module, example: Tensor) -> Executed:
    """Pass an example through a net, which has to be one that evaluates."""
    runs: list[tuple[nn.Module, Tensor, Node | None, Node | None]] = []

    def note(part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        before = inputs[0] if inputs else output
        runs.append((part, output, before.grad_fn, output.grad_fn))

    parts = (p for p in net.modules() if _is_layer(p) or isinstance(p, (*NORMS, *ACTIVATIONS)))
    hooks = [part.register_forward_hook(note) for part in parts]
    trained = [(parameter, parameter.requires_grad) for parameter in net.parameters()]
    try:
        net.requires_grad_(True)
        with torch.enable_grad():
            outputs: Tensor = net(example.detach().clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, trains in trained:
            parameter.requires_grad_(trains)
    order = dict.fromkeys(part for part, *_ in runs)
    layers = [part for part in order if _is_layer(part)]
    times = Counter(part for part, *_ in runs)
    weights = {id(parameter) for parameter in net.parameters() if parameter.ndim > 1}
    first, early = None, set[nn.Module]()
    if layers and times[layers[0]] == 1:
        before = next(node for part, _, node, _ in runs if part is layers[0])
        if not _depends(before, weights):
            first, early = layers[0], set(list(order)[: list(order).index(layers[0])])
    uses = _uses(outputs.grad_fn)
    made = {node: (part, output) for part, output, _, node in runs if _is_layer(part)}
    norms: dict[nn.Module, BatchNorm] = {}
    for part, _, node, _ in runs:
        if node is not None and uses[node] == 1 and node in made and isinstance(part, BatchNorm):
            layer, output = made[node]
            if times[layer] == times[part] == 1 and _fits(layer, output, part):
                norms[layer] = part
    return Executed(layers, first, norms, early)


def _is_layer(part: nn.Module) -> bool:
    """Tell whether a part computes as torch's own layers do."""
    return any(type(part).forward is kind.forward for kind in _LAYERS)


def _fits(layer: nn.Module, output: Tensor, norm: BatchNorm) -> bool:
    channels_first = not isinstance(layer, nn.Linear) or output.ndim == 2
    return channels_first and norm.running_mean is not None and norm.running_var is not None


def _depends(root: Node | None, weights: set[int]) -> bool:
    """Tell whether what a node of a graph gives depends on some parameters."""
    stack, seen = [root], {root}
    while stack:
        node = stack.pop()
        if node is None:
            continue
        if id(getattr(node, "variable", None)) in weights:
            return True
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        stack += new
    return False


def _uses(root: Node | None) -> Counter[Node]:
    """Count by node of a graph how often others take what it gives."""
    found: Counter[Node] = Counter()
    stack, seen = [root] if root is not None else [], {root}
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is not None:
                found[node] += 1
                if node not in seen:
                    seen.add(node)
                    stack.append(node)
    return found
