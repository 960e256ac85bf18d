"""Which weights pruning may touch: all but those of 1 × 1 convolutions on shortcuts.

A shortcut is told by the structure of a net, as autograd records it, and never by a name:

    x ──┬── … ── 1 × 1 convolution ── … ──┬── +     … has no weights, other than those of norms
        └── layers with weights ──────────┘

The code of FedDIP (Long et al., ICDM 2023, arXiv:2309.06805) leaves these convolutions dense. The
main path may be as long as that between the two classifiers of torchvision's LR-ASPP.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

from fedcomp.models.base import manifest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn
    from torch.autograd.graph import Node

    from fedcomp.tensors import Manifest


def prunable(module: nn.Module, input_shape: tuple[int, ...], manifest: Manifest) -> list[str]:
    """Return the tensors of a manifest that pruning may touch, in its order.

    These are floats of `Kind.WEIGHT`. Where autograd does not see through a net all of them count.

    Examples
    --------
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    >>> prunable(net, (1, 2, 2), manifest_of(net))
    ['0.weight', '3.weight']
    """
    weights = [spec.name for spec in manifest.weights if spec.is_float]
    dense = _on_shortcuts(module, input_shape) if weights else set()
    return [name for name in weights if name not in dense]


def _on_shortcuts(module: nn.Module, input_shape: tuple[int, ...]) -> set[str]:
    """Pass zeros through a net as it evaluates, and return the weights on its shortcuts.

    The net computes with other tensors of the same values in the place of its own: so frozen
    parameters show in the graph, and no buffer, gradient or flag of a parameter changes.
    """
    import torch

    weights = {spec.name for spec in manifest_of(module).weights}
    state = {name: buffer.clone() for name, buffer in module.named_buffers()}
    names: dict[int, set[str]] = {}
    for name, parameter in module.named_parameters():
        state[name] = parameter.detach().requires_grad_(parameter.is_floating_point())
        names[id(parameter)] = names[id(state[name])] = set()
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if name in weights:
            names[id(parameter)].add(name)
    modes = [(part, part.training) for part in module.modules()]
    first = next(value for value in module.parameters() if value.is_floating_point())
    zeros = torch.zeros(1, *input_shape, device=first.device, dtype=first.dtype)
    try:
        module.eval()
        with torch.enable_grad():
            source = zeros.requires_grad_()
            inputs = source.clone()  # which a first layer in place may change
            outputs = torch.func.functional_call(module, state, (inputs,))
    finally:
        for part, training in modes:
            part.training = training
    graph = _Graph(getattr(outputs, "grad_fn", None), source, names)
    return {name for layer in graph.shortcuts() for name in graph.weights[layer]}


class _Graph:
    """The nodes through which the input flows, and the names of weights that enter at each."""

    def __init__(self, root: Node | None, source: Tensor, names: Mapping[int, set[str]]) -> None:
        self.weights: dict[Node, set[str]] = {}
        self._producers: dict[Node, list[Node]] = {}
        for node in _ordered(root):
            variable = getattr(node, "variable", None)  # of a leaf
            before = dict.fromkeys(p for p, _ in node.next_functions if p is not None)
            data = [p for p in before if p in self._producers]
            if data or variable is source:
                self._producers[node] = data
            beside = (self.weights[p] for p in before if p not in self._producers)
            self.weights[node] = names.get(id(variable), set()).union(*beside)
        self._at = {node: at for at, node in enumerate(self._producers)}

    def shortcuts(self) -> Iterator[Node]:
        """Yield the 1 × 1 convolutions on shortcuts."""
        for node, before in self._producers.items():
            if len(before) > 1 and node.name().startswith("AddBackward"):
                for one, other in permutations(before, 2):
                    layer = self._back(one)[-1]
                    if _is_pointwise(layer) and self._meet(other, layer):
                        yield layer

    def _back(self, node: Node) -> list[Node]:
        """Return a node and those before it, up to the nearest with weights or several inputs."""
        found = [node]
        while not self.weights[found[-1]] and len(before := self._producers[found[-1]]) == 1:
            found += before
        return found

    def _meet(self, other: Node, layer: Node) -> bool:
        """Tell whether a node, by way of weights, comes from where the input of a layer begins.

        If it comes from there without weights it is an identity, and the layer the main path.
        """
        begins = {node for before in self._producers[layer] for node in self._back(before)}
        first = min(self._at[node] for node in begins)
        steps, seen = [(other, False)], set()
        while steps:
            step = node, weighted = steps.pop()
            if weighted and node in begins:
                return True
            if node is layer or self._at[node] <= first or step in seen:
                continue
            seen.add(step)
            weighted = weighted or bool(self.weights[node])
            steps += [(before, weighted) for before in self._producers[node]]
        return False


def _is_pointwise(node: Node) -> bool:
    if not node.name().startswith("ConvolutionBackward"):
        return False
    kernel: Tensor = node._saved_weight  # type: ignore[attr-defined]
    return all(size == 1 for size in kernel.shape[2:])


def _ordered(root: Node | None) -> Iterator[Node]:
    """Yield all nodes of a graph, each after those it takes from; no recursion, nets are deep."""
    done = set()
    stack = [] if root is None else [root]
    while stack:
        left = [p for p, _ in stack[-1].next_functions if p is not None and p not in done]
        stack += left
        if not left and (node := stack.pop()) not in done:
            done.add(node)
            yield node
