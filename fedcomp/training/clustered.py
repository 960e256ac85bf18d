"""Training at C(w): each weight counts as the nearest of its layer's centroids.

    a_i = argmin_c |w_i − μ_c|,  C(w)_i = μ_{a_i},  g = ∂loss / ∂C(w)
    dμ_c = Σ_{a_i = c} g_i,  dw_i = g_i

as FedCompress does it: Tsouvalas et al., ICASSP 2024, arXiv:2401.14211.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import nn

from fedcomp.codecs.arrays import finite
from fedcomp.codecs.clusters import centroids
from fedcomp.training.straight_through import StraightThrough

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from torch import Tensor

    from fedcomp.tensors import Manifest

WhichWeights: TypeAlias = Literal["auto", "conv", "all"]


def clustered_weights(module: nn.Module, manifest: Manifest, which: WhichWeights) -> list[str]:
    """Return the weights of a manifest that are to be clustered.

    Parameters
    ----------
    which
        `conv`: the kernels of convolutions but for depthwise ones, as in FedCompress; `all`:
        those of all layers; `auto`: `conv` where most weights are in such kernels.
    """
    sizes = {spec.name: spec.size for spec in manifest.weights}
    kernels = {
        f"{prefix}.weight" if prefix else "weight"
        for prefix, part in module.named_modules(remove_duplicate=False)
        if isinstance(part, nn.modules.conv._ConvNd) and not 1 < part.groups == part.in_channels
    }
    conv = [name for name in sizes if name in kernels]
    mostly_conv = 2 * sum(sizes[name] for name in conv) > sum(sizes.values())
    return conv if which == "conv" or (which == "auto" and mostly_conv) else list(sizes)


class ClusteredSteps(StraightThrough):
    """While it is entered, a module computes with clustered weights, and afterwards has them.

    Parameters
    ----------
    names
        The parameters to cluster; those of no more than `count` weights stay as they are.
    count
        How many centroids each has at most; they start as those of k-means.

    """

    def __init__(self, module: nn.Module, names: Iterable[str], count: int) -> None:
        known = dict(module.named_parameters(remove_duplicate=False))
        self._names = {known[name]: name for name in names if known[name].numel() > count}
        super().__init__(module, self._names)
        self._count = count
        self._of: dict[nn.Parameter, nn.Parameter] = {}
        self._nearest: dict[nn.Parameter, Tensor] = {}

    @property
    def centroids(self) -> list[nn.Parameter]:
        """The centroids of each parameter, to be trained beside the module's own parameters."""
        return list(self._of.values())

    @torch.no_grad()
    def __enter__(self) -> Self:
        for parameter, name in self._names.items():
            values = finite(name, parameter.cpu().numpy())
            found = torch.from_numpy(centroids(values, self._count))
            self._of[parameter] = nn.Parameter(found.to(parameter))
        return super().__enter__()

    @torch.no_grad()
    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for parameter in self._parameters:
            self.swap(parameter)

    def swap(self, parameter: nn.Parameter) -> None:
        """Put C(w) in the place of w."""
        values, order = self._of[parameter].sort()
        borders = (values[1:] + values[:-1]) / 2
        nearest = torch.bucketize(parameter.contiguous(), borders, right=True)
        self._nearest[parameter] = order[nearest]
        parameter.copy_(values[nearest])

    @torch.no_grad()
    def before_step(self) -> None:
        """Put w back, and add up the gradients of each centroid."""
        super().before_step()
        for parameter, found in self._of.items():
            if parameter.grad is not None:
                at, gradient = self._nearest[parameter].view(-1), parameter.grad.reshape(-1)
                found.grad = torch.zeros_like(found).scatter_add_(0, at, gradient)
