"""What a net makes of samples before its last layer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from fedcomp.models.selection import last_layer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from fedcomp.tensors import Array


@contextmanager
def embeddings(module: nn.Module) -> Iterator[list[Array]]:
    """Collect the embeddings of all samples that a module sees meanwhile, a row each, in batches.

    They are what goes into the last layer with weights, averaged over positions where there are
    several.
    """
    rows: list[Array] = []

    layer = module.get_submodule(last_layer(module))

    def note(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        values: Tensor = inputs[0].detach()
        positions = range(1, values.ndim - 1) if _is_dense(layer) else range(2, values.ndim)
        rows.append((values.mean(tuple(positions)) if positions else values).cpu().numpy())

    hook = layer.register_forward_pre_hook(note)
    try:
        yield rows
    finally:
        hook.remove()


def width_of(module: nn.Module) -> int:
    """Return how many values an embedding has."""
    layer = module.get_submodule(last_layer(module))
    return int(layer.in_features if _is_dense(layer) else layer.in_channels)  # type: ignore[arg-type]


def _is_dense(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear)
