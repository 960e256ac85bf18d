"""Layers that multiply by what is not zero alone, from weights in CSR; imports torch.

CSR, compressed sparse rows: each value that is not zero, its column, and where each row begins.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

Layer: TypeAlias = "nn.Linear | nn.Conv2d"

_CACHED = 1 << 18  # elements that are unfolded at once: 1 MiB, which stays in the cache


class SparseLinear(nn.Module):
    """Y = (W Xᵀ + b)ᵀ of a linear layer, with W in CSR."""

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self._weight, self._bias = _csr(dense.weight), _column(dense)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the layer's outputs."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        outputs = torch.addmm(self._bias, self._weight, rows.t())
        return outputs.t().reshape(*inputs.shape[:-1], -1)


class SparseConv2d(nn.Module):
    """A convolution as W · unfold(X) + b, with a filter a row of W, in CSR; no groups.

    The samples are unfolded a few at a time, as many as stay in the cache.
    """

    def __init__(self, dense: nn.Conv2d) -> None:
        super().__init__()
        self._weight, self._bias = _csr(dense.weight.flatten(1)), _column(dense)
        self._kernel, self._stride, self._gaps = dense.kernel_size, dense.stride, dense.dilation
        height, width = padding_of(dense) or (0, 0)
        self._padding = (width, width, height, height)

    def forward(self, images: Tensor) -> Tensor:
        """Return the layer's outputs."""
        windows = F.pad(images, self._padding) if any(self._padding) else images
        for axis in (0, 1):
            reach = (self._kernel[axis] - 1) * self._gaps[axis] + 1
            windows = windows.unfold(2 + axis, reach, self._stride[axis])
        windows = windows[..., :: self._gaps[0], :: self._gaps[1]].permute(1, 4, 5, 0, 2, 3)
        batch, height, width = windows.shape[3:]
        (filters, inputs), pixels = self._weight.shape, height * width
        outputs = images.new_empty(batch, filters, pixels)
        group = max(_CACHED // (inputs * pixels), 1)
        for at in range(0, batch, group):
            columns = windows[:, :, :, at : at + group].reshape(inputs, -1)
            found = torch.addmm(self._bias, self._weight, columns)
            outputs[at : at + group] = found.view(filters, -1, pixels).transpose(0, 1)
        return outputs.view(batch, filters, height, width)


def sparse_layers(module: nn.Module) -> dict[Layer, nn.Module]:
    """Return each layer of a net that takes fewer bytes in CSR, with its sparse twin.

    Subclasses stay: what they do beside the product is not known.
    """
    found: dict[Layer, nn.Module] = {}
    for layer in module.modules():
        if type(layer) is nn.Linear and _pays(layer.weight):
            found[layer] = SparseLinear(layer)
        elif type(layer) is nn.Conv2d and _plain(layer) and _pays(layer.weight):
            found[layer] = SparseConv2d(layer)
    return found


def with_twins(module: nn.Module, twins: Mapping[Layer, nn.Module]) -> nn.Module:
    """Return a net in which some layers are others; parameters that are left are shared."""
    kept: dict[int, object] = {
        id(held): held for held in module.state_dict(keep_vars=True).values()
    }
    return deepcopy(module, kept | {id(layer): twin for layer, twin in twins.items()})


def csr_bytes(weight: Tensor) -> int:
    """Return the size of a weight in CSR, a row for each output, with indices of 32 bits.

    Examples
    --------
    >>> csr_bytes(torch.eye(10)), torch.eye(10).nbytes
    (124, 400)
    """
    return int(weight.count_nonzero()) * (weight.element_size() + 4) + 4 * (len(weight) + 1)


def padding_of(layer: nn.Conv2d) -> tuple[int, int] | None:
    """Return the zeros above and to the left; None where below and to the right are others."""
    if layer.padding == "valid":
        return (0, 0)
    if not isinstance(layer.padding, str):
        return layer.padding[0], layer.padding[1]
    high, wide = ((k - 1) * gap for k, gap in zip(layer.kernel_size, layer.dilation, strict=True))
    return None if high % 2 or wide % 2 else (high // 2, wide // 2)


def _pays(weight: Tensor) -> bool:
    return weight.dtype is torch.float32 and csr_bytes(weight) < weight.nbytes


def _plain(layer: nn.Conv2d) -> bool:
    zeros = layer.padding_mode == "zeros" and padding_of(layer) is not None
    return zeros and layer.groups == 1


def _csr(weight: Tensor) -> Tensor:
    """Return a matrix in CSR with indices of 32 bits, as MKL takes them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state", UserWarning)
        wide = weight.detach().to_sparse_csr()
        return torch.sparse_csr_tensor(
            wide.crow_indices().int(),
            wide.col_indices().int(),
            wide.values(),
            wide.shape,
            check_invariants=True,  # torch warns where it is told neither
        )


def _column(layer: Layer) -> Tensor:
    """Return a layer's biases, zeros where it has none, below each other."""
    bias = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
    return bias.detach()[:, None]
