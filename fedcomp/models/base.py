"""The contract of a model family, and a module's tensors as both ends of a link see them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.tensors import Kind, Manifest, Tensors, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ModelSettings(ABC):
    """A model family by name; torch is imported when a model is built, not before."""

    name: ClassVar[str]

    @abstractmethod
    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module for inputs of that shape, initialised from torch's generator."""

    def seeded(self, input_shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
        """Build a module whose initial values depend on `seed` alone."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build(input_shape, outputs)


def manifest_of(module: nn.Module) -> Manifest:
    """Describe a module's parameters and buffers in state-dict order."""
    kinds = _kinds(module)
    return Manifest(
        tuple(
            TensorSpec(name, tuple(t.shape), str(t.dtype).removeprefix("torch."), kinds[name])
            for name, t in module.state_dict().items()
        )
    )


def read_tensors(module: nn.Module) -> Tensors:
    """Copy a module's tensors out of it."""
    return {
        name: np.array(value.detach().cpu().numpy(), order="C", copy=True)
        for name, value in module.state_dict().items()
    }


def load_tensors(module: nn.Module, tensors: Tensors) -> None:
    """Copy tensors into a module, in place and on the device where it is."""
    import torch

    state = module.state_dict()
    with torch.no_grad():
        for name, value in tensors.items():
            state[name].copy_(_as_torch(value))


def _as_torch(value: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
    """View an array as a torch tensor; read-only arrays are copied, torch would warn of them."""
    import torch

    return torch.from_numpy(value if value.flags.writeable else value.copy())


def _kinds(module: nn.Module) -> dict[str, Kind]:
    """Tell each tensor's kind from the structure that holds it, not from its name."""
    from torch import nn

    norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    kinds: dict[str, Kind] = {}
    for prefix, part in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, value in part.named_parameters(recurse=False):
            if isinstance(part, norms):
                kinds[dot + name] = Kind.NORM
            else:
                kinds[dot + name] = Kind.WEIGHT if value.ndim > 1 else Kind.BIAS
        for name, buffer in part.named_buffers(recurse=False):
            floating = buffer.is_floating_point()
            kinds[dot + name] = Kind.BUFFER if floating else Kind.COUNTER
    return kinds
