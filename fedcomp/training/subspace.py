"""Training inside a subspace: steps follow the part of each gradient that lies in it.

    w ← w − η·A·G·Aᵀ∂loss/∂w      A: `fedcomp.codecs.buckets`,  G = diag(n_b^γ)

A bucket of n_b weights holds 1/n_b of their gradients' squared length, on average, and the loss
curves less along it: steps may be longer than those of all weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from fedcomp.codecs.buckets import Buckets


class Projection:
    """Puts A·G·Aᵀ·gradient in the place of gradients.

    Parameters
    ----------
    columns
        A by the name of a parameter; others stay as they are.
    gain
        γ.

    Examples
    --------
    >>> from fedcomp.codecs.buckets import draw
    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> columns = {"weight": draw(2, 0.5, 1, "weight")}
    >>> layer(torch.tensor([4.0, 0.0])).sum().backward()
    >>> Projection(layer, columns, 1.0).before_step()
    >>> layer.weight.grad.abs().tolist()
    [[4.0, 4.0]]
    """

    def __init__(self, module: nn.Module, columns: Mapping[str, Buckets], gain: float) -> None:
        known = dict(module.named_parameters(remove_duplicate=False))
        shared = {name: found for name, found in columns.items() if not found.is_whole}
        self._maps = {known[name]: _Map(found, gain) for name, found in shared.items()}

    @torch.no_grad()
    def before_step(self) -> None:
        """Project the gradients that are there."""
        for parameter, columns in self._maps.items():
            if parameter.grad is not None:
                parameter.grad = columns.apply(parameter.grad)


class _Map:
    """A·G·Aᵀ for one tensor."""

    def __init__(self, columns: Buckets, gain: float) -> None:
        self._count, self._rows = columns.count, columns.rows
        self._signs = torch.from_numpy(columns.signs)
        self._factors = torch.from_numpy(columns.sizes ** (gain - 1.0))

    def apply(self, gradient: Tensor) -> Tensor:
        """Return the projection."""
        if self._signs.device != gradient.device:
            self._signs = self._signs.to(gradient.device)
            self._factors = self._factors.to(gradient.device)
        signed = gradient.reshape(-1) * self._signs
        more = self._rows * self._count - len(signed)
        rows = nn.functional.pad(signed, (0, more)).view(self._rows, self._count)
        shared = (rows.sum(0) * self._factors).to(gradient.dtype)
        return (shared.repeat(self._rows)[: len(signed)] * self._signs).view_as(gradient)
