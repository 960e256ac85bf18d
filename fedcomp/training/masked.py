"""Training at w ⊙ m: where weights are masked in the forward pass, and what their steps change.

    w̃ = w ⊙ m,  g = ∂(loss + λ Σ ‖w̃_l‖₂) / ∂w̃

dense    w ← w − η·g        Lin et al., "Dynamic Model Pruning with Feedback", ICLR 2020,
                            arXiv:2006.07253: e = w̃ − w is error feedback
else     w ← w − η·(g ⊙ m)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from torch import Tensor, nn

    from fedcomp.training.pruning import Masks


class MaskedSteps:
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
        self._module = module
        known = dict(module.named_parameters(remove_duplicate=False))
        self._masks: dict[nn.Parameter, Tensor] = {  # a shared parameter has one mask
            known[name]: torch.from_numpy(mask).to(known[name]) for name, mask in masks.items()
        }
        self._penalties = {known[name]: size for name, size in (penalties or {}).items() if size}
        self._dense = dense
        self._whole: dict[nn.Parameter, Tensor] = {}
        self._masked = False

    @torch.no_grad()
    def __enter__(self) -> Self:
        self._whole = {parameter: parameter.clone() for parameter in self._masks}
        if self._dense:
            self._hook = self._module.register_forward_pre_hook(self._mask)
        else:
            for parameter, mask in self._masks.items():
                parameter.mul_(mask)
        return self

    @torch.no_grad()
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._dense:
            self._hook.remove()
            self._restore()
            return
        for parameter, mask in self._masks.items():
            left_out = mask.to(parameter.device) == 0
            parameter[left_out] = self._whole[parameter].to(parameter.device)[left_out]

    @torch.no_grad()
    def _mask(self, _module: nn.Module, _inputs: Any) -> None:
        if self._masked:  # a second pass before the step
            return
        for parameter, mask in self._masks.items():
            if mask.device != parameter.device:  # training has moved the module meanwhile
                self._masks[parameter] = mask = mask.to(parameter.device)
                self._whole[parameter] = self._whole[parameter].to(parameter.device)
            self._whole[parameter].copy_(parameter)
            parameter.mul_(mask)
        self._masked = True

    @torch.no_grad()
    def before_step(self) -> None:
        """Add the gradient of the penalties, then see to it that steps are those of w."""
        for parameter, size in self._penalties.items():
            if parameter.grad is not None:
                norm = torch.linalg.vector_norm(parameter).clamp_min(1e-30)
                parameter.grad.add_(parameter * (size / norm))
        if self._dense:
            self._restore()
            return
        for parameter, mask in self._masks.items():
            if parameter.grad is not None:
                parameter.grad.mul_(mask.to(parameter.device))

    def _restore(self) -> None:
        if self._masked:
            for parameter, whole in self._whole.items():
                parameter.copy_(whole)
        self._masked = False
