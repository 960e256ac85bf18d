"""Training inside a subspace: steps follow the part of each gradient that lies in it.

    w ← w − η·A·G·Aᵀ∂loss/∂w      A: `fedcomp.codecs.buckets`,  G = diag(n_b^γ)

A bucket of n_b weights holds 1/n_b of their gradients' squared length, on average, and the loss
curves less along it: steps may be longer than those of all weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

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
    >>> columns = draw(2, 0.5, 1, "weight")
    >>> layer(torch.tensor([4.0, 0.0])).sum().backward()
    >>> Projection(layer, {"weight": columns}, 1.0).before_step()
    >>> bool((layer.weight.grad * torch.tensor(columns.signs) == 4 * float(columns.signs[0])).all())
    True
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
    """A·G·Aᵀ for one tensor; members of a bucket are gathered, which is faster than adding up."""

    def __init__(self, columns: Buckets, gain: float) -> None:
        sizes = torch.from_numpy(columns.sizes.copy())
        order = torch.from_numpy(columns.of.astype("int64")).argsort(stable=True)
        starts = sizes.cumsum(0) - sizes
        steps = torch.arange(int(sizes.max()))
        there = steps < sizes[:, None]
        self._members = torch.where(there, (starts[:, None] + steps).clamp(max=len(order) - 1), 0)
        self._members = torch.where(there, order[self._members], len(order))  # the last is a zero
        self._of = torch.from_numpy(columns.of.astype("int64"))
        self._signs = torch.from_numpy(columns.signs.copy())
        self._factors = sizes**gain / sizes

    def apply(self, gradient: Tensor) -> Tensor:
        """Return the projection."""
        if self._of.device != gradient.device:
            for name, value in vars(self).items():
                setattr(self, name, value.to(gradient.device))
        signed = torch.cat([gradient.reshape(-1) * self._signs, gradient.new_zeros(1)])
        shared = signed[self._members].sum(1) * self._factors.to(gradient)
        return (shared[self._of] * self._signs).view_as(gradient)
