"""Which tensors of a model are trained and travel; all others stay as both ends built them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fedcomp.errors import ConfigError
from fedcomp.models.base import manifest_of
from fedcomp.tensors import Manifest, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

_LAST = re.compile(r"last_([1-9]\d*)")
_PARAMETRISED = re.compile(r"parametrizations\.(\w+)(?:\.\d+(?=\.))?")


def selected(module: nn.Module, wanted: str) -> Manifest:
    """Return the part of a module's manifest that `wanted` names, in model order.

    Parameters
    ----------
    wanted
        `all`; `head`, the last layer with weights and any that gives outputs beside it; `last_<n>`,
        the last n layers with weights and what lies between them; or a regular expression for names
        of parameters.

    A buffer goes with the parameters of its layer; where a layer has no parameters it always
    travels, because training changes it.
    """
    manifest = manifest_of(module)
    chosen = _chooser(module, manifest, wanted)
    taken = {spec.name for spec in manifest.specs if spec.is_parameter and chosen(spec.name)}
    if not taken:
        weights = (spec.name for spec in manifest.weights)
        names = ", ".join(map(plain_name, weights))
        msg = (
            f"train.parameters={wanted}: matches no parameter; allowed are all, head, last_<n> and"
            f" a regular expression for names, of which the model's weights have {names[:400]}"
        )
        raise ConfigError(msg)
    for prefix, part in module.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        own = {dot + name for name, _ in part.named_parameters(recurse=False)}
        if not own or own & taken:
            taken |= {dot + name for name, _ in part.named_buffers(recurse=False)}
    return Manifest(tuple(spec for spec in manifest.specs if spec.name in taken))


def head_of(module: nn.Module) -> set[str]:
    """Return the tensors of the last layer with weights, and of layers beside it for the outputs.

    These have as many rows, and stand below one part of the net that is no sequence: in a sequence,
    and in the net itself, as many rows are those of a hidden layer.
    """
    from torch import nn

    specs = manifest_of(module).specs
    names = _from_last(specs, 1)
    weights = [spec for spec in specs if spec.is_weight]
    parent = _parent(weights[-1].name) if weights else ""
    if parent and not isinstance(module.get_submodule(parent), nn.Sequential):
        rows = weights[-1].shape[0]
        beside = {
            _layer(weight.name)
            for weight in weights
            if weight.shape[0] == rows and _parent(weight.name) == parent
        }
        names |= {spec.name for spec in specs if _layer(spec.name) in beside}
    return names


def last_layer(module: nn.Module) -> str:
    """Return the name of the last layer with weights."""
    weights = [spec.name for spec in manifest_of(module).weights]
    return _layer(weights[-1])


def freeze(module: nn.Module, trained: Manifest) -> None:
    """Let training change nothing but the tensors of a manifest, each under any of its names."""
    module.requires_grad_(False)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if name in trained.by_name:
            parameter.requires_grad_(True)


def _chooser(module: nn.Module, manifest: Manifest, wanted: str) -> Callable[[str], bool]:
    if wanted == "all":
        return lambda name: True  # noqa: ARG005
    if wanted == "head":
        return head_of(module).__contains__
    if last := _LAST.fullmatch(wanted):
        return _from_last(manifest.specs, int(last[1])).__contains__
    try:
        pattern = re.compile(wanted)
    except re.error as error:
        msg = f"train.parameters={wanted}: is no regular expression: {error}"
        raise ConfigError(msg) from error
    return lambda name: pattern.search(plain_name(name)) is not None


def _from_last(specs: tuple[TensorSpec, ...], count: int) -> set[str]:
    """Return the tensors from the first of the last `count` layers with weights to the end."""
    layers = [_layer(spec.name) for spec in specs]
    weighty = [_layer(spec.name) for spec in specs if spec.is_weight]
    start = layers.index(weighty[-min(count, len(weighty))]) if weighty else 0
    return {spec.name for spec in specs[start:]}


def plain_name(name: str) -> str:
    """Return the name that a tensor has, or would have, in a net without parametrisations.

    Examples
    --------
    >>> plain_name("0.parametrizations.weight.original")
    '0.weight'
    >>> plain_name("0.parametrizations.weight.0.scale")
    '0.weight.scale'
    """
    found = _PARAMETRISED.sub(r"\1", name)
    return found.removesuffix(".original")


def _layer(name: str) -> str:
    """Return the layer that a tensor belongs to, be its weight parametrised or not."""
    if ".parametrizations." in name:
        return name.partition(".parametrizations.")[0]
    return name.rpartition(".")[0]


def _parent(name: str) -> str:
    return _layer(name).rpartition(".")[0]
