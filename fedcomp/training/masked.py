"""Training at w ⊙ m: where weights are masked in the forward pass, and what their steps change.

    w̃ = w ⊙ m,  g = ∂(loss + λ Σ ‖w̃_l‖₂) / ∂w̃

dense    w ← w − η·g        Lin et al., "Dynamic Model Pruning with Feedback", ICLR 2020,
                            arXiv:2006.07253: e = w̃ − w is error feedback
else     w ← w − η·(g ⊙ m)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fedcomp.training.straight_through import StraightThrough

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from torch import Tensor, nn

    from fedcomp.training.pruning import Masks


class MaskedSteps(StraightThrough):
    """While it is entered, a module computes with masked weights; afterwards the others are there.

    Parameters
    ----------
    masks
        By the name of a parameter what is kept of it.
    dense
        Whether masked weights move, too; then each `before_step` puts w back.
    penalties
        λ by the name of a parameter.

    Examples
    --------
    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> layer.weight.data = torch.tensor([[2.0, 5.0]])
    >>> mask = torch.tensor([[True, False]]).numpy()
    >>> with MaskedSteps(layer, {"weight": mask}) as steps:
    ...     loss = layer(torch.tensor([3.0, 1.0])).sum()
    ...     loss.backward()
    ...     steps.before_step()
    >>> loss.item(), layer.weight.tolist(), layer.weight.grad.tolist()
    (6.0, [[2.0, 5.0]], [[3.0, 1.0]])
    """

    def __init__(
        self,
        module: nn.Module,
        masks: Masks,
        *,
        dense: bool = True,
        penalties: Mapping[str, float] | None = None,
    ) -> None:
        known = dict(module.named_parameters(remove_duplicate=False))
        self._masks: dict[nn.Parameter, Tensor] = {  # a shared parameter has one mask
            known[name]: torch.from_numpy(mask).to(known[name]) for name, mask in masks.items()
        }
        self._penalties = {known[name]: size for name, size in (penalties or {}).items() if size}
        self._dense = dense
        super().__init__(module, self._masks if dense else ())

    def swap(self, parameter: nn.Parameter) -> None:
        """Put w ⊙ m in the place of w."""
        parameter.mul_(self._mask(parameter))

    @torch.no_grad()
    def __enter__(self) -> Self:
        super().__enter__()
        if not self._dense:
            self._out = {}
            for parameter in self._masks:
                self._out[parameter] = parameter.clone()
                self.swap(parameter)
        return self

    @torch.no_grad()
    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if not self._dense:
            for parameter, whole in self._out.items():
                left_out = self._mask(parameter) == 0
                parameter[left_out] = whole.to(parameter.device)[left_out]

    @torch.no_grad()
    def before_step(self) -> None:
        """Add the gradient of the penalties, then see to it that steps are those of w."""
        for parameter, size in self._penalties.items():
            if parameter.grad is not None:
                norm = torch.linalg.vector_norm(parameter).clamp_min(1e-30)
                parameter.grad.add_(parameter * (size / norm))
        super().before_step()
        if not self._dense:
            for parameter in self._masks:
                if parameter.grad is not None:
                    parameter.grad.mul_(self._mask(parameter))

    def _mask(self, parameter: nn.Parameter) -> Tensor:
        """Return a parameter's mask on the device where it is."""
        mask = self._masks[parameter]
        if mask.device != parameter.device:
            self._masks[parameter] = mask = mask.to(parameter.device)
        return mask
