"""The contract of a model family, and a module's tensors as both ends of a link see them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.errors import ConfigError
from fedcomp.tensors import Kind, Manifest, Tensors, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ModelSettings(ABC):
    """A model family by name; torch is imported when a model is built, not before.

    Parameters
    ----------
    pretrained
        Start from the weights that were published for the architecture.
    weights
        A file to start from, safetensors or a torch state dict; relative to the current directory.
    """

    name: ClassVar[str]

    pretrained: bool = False
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.pretrained and self.weights is not None:
            msg = f"pretrained=true and weights={self.weights} exclude each other"
            raise ConfigError(f"{msg}: choose one start")

    @property
    def starts_from_weights(self) -> bool:
        """Whether the initial values come from somewhere else than the seed."""
        return self.pretrained or self.weights is not None

    @abstractmethod
    def build(self, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Return a new module for inputs of that shape, initialised from torch's generator."""

    def seeded(self, input_shape: tuple[int, ...], outputs: int, seed: int) -> nn.Module:
        """Build a module whose initial values depend on `seed`, and on `weights`, alone."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.build(input_shape, outputs)
            self.load_weights(module, outputs)
        return module

    def load_weights(self, module: nn.Module, outputs: int) -> None:
        """Put `pretrained` or `weights` into a module; a head of another size keeps its values."""
        from fedcomp.models.weights import fill, read_weights

        if self.weights is not None:
            fill(module, read_weights(self.weights), outputs, f"model.weights={self.weights}")
        elif self.pretrained:
            fill(module, self.published(), outputs, "model.pretrained=true")

    def published(self) -> dict[str, Tensor]:
        """Return the tensors that were published for the architecture."""
        msg = f"model={self.name} has no published weights: choose model.weights=<file>"
        raise ConfigError(msg)


def manifest_of(module: nn.Module) -> Manifest:
    """Describe a module's parameters and buffers in state-dict order."""
    kinds = _kinds(module)
    return Manifest(
        tuple(
            TensorSpec(name, tuple(t.shape), str(t.dtype).removeprefix("torch."), kinds[name])
            for name, t in module.state_dict().items()
        )
    )


def read_tensors(module: nn.Module, manifest: Manifest | None = None) -> Tensors:
    """Copy a module's tensors out of it, all or those of a manifest."""
    return {
        name: np.array(value.detach().cpu().numpy(), order="C", copy=True)
        for name, value in module.state_dict().items()
        if manifest is None or name in manifest.by_name
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

    from fedcomp.models.scaling import Scale

    norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    layers = (nn.Linear, nn.modules.conv._ConvNd, nn.utils.parametrize.ParametrizationList)
    kinds: dict[str, Kind] = {}
    for prefix, part in module.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        for name, value in part.named_parameters(recurse=False, remove_duplicate=False):
            # one long axis, as a layer scale (C, 1, 1) or a class token has, makes a vector
            matrix = value.ndim > 1 and value.numel() > max(value.shape)
            if isinstance(part, norms):
                kinds[dot + name] = Kind.NORM
            elif isinstance(part, Scale):
                kinds[dot + name] = Kind.SCALE
            else:
                weight = matrix or (value.ndim > 1 and isinstance(part, layers))
                kinds[dot + name] = Kind.WEIGHT if weight else Kind.BIAS
        for name, buffer in part.named_buffers(recurse=False, remove_duplicate=False):
            floating = buffer.is_floating_point()
            kinds[dot + name] = Kind.BUFFER if floating else Kind.COUNTER
    return kinds
