"""Which tensors of a model are trained and travel; all others stay as both ends built them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fedcomp.errors import ConfigError
from fedcomp.models.base import manifest_of
from fedcomp.tensors import Kind, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

_LAST = re.compile(r"last_([1-9]\d*)")


def selected(module: nn.Module, wanted: str) -> Manifest:
    """Return the part of a module's manifest that `wanted` names, in model order.

    Parameters
    ----------
    wanted
        `all`; `head`, the last layer with weights; `last_<n>`, the last n of these and what lies
        between them; or a regular expression for names of parameters.

    A buffer goes with the parameters of its layer; where a layer has no parameters it always
    travels, because training changes it.
    """
    manifest = manifest_of(module)
    chosen = _chooser(manifest, wanted)
    buffers = (Kind.BUFFER, Kind.COUNTER)
    parameters = {spec.name for spec in manifest.specs if spec.kind not in buffers}
    taken = {name for name in parameters if chosen(name)}
    if not taken:
        names = ", ".join(spec.name for spec in manifest.specs if spec.kind is Kind.WEIGHT)
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


def freeze(module: nn.Module, trained: Manifest) -> None:
    """Let training change nothing but the tensors of a manifest."""
    for name, parameter in module.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(name in trained.by_name)


def _chooser(manifest: Manifest, wanted: str) -> Callable[[str], bool]:
    if wanted == "all":
        return lambda name: True  # noqa: ARG005
    last = _LAST.fullmatch("last_1" if wanted == "head" else wanted)
    if last is not None:
        layers = [_layer(spec.name) for spec in manifest.specs]
        weighty = [_layer(spec.name) for spec in manifest.specs if spec.kind is Kind.WEIGHT]
        start = layers.index(weighty[-min(int(last[1]), len(weighty))]) if weighty else 0
        return {spec.name for spec in manifest.specs[start:]}.__contains__
    try:
        pattern = re.compile(wanted)
    except re.error as error:
        msg = f"train.parameters={wanted}: is no regular expression: {error}"
        raise ConfigError(msg) from error
    return lambda name: pattern.search(name) is not None


def _layer(name: str) -> str:
    """Return the layer that a tensor belongs to, be its weight parametrised or not."""
    return (
        name.partition(".parametrizations.")[0]
        if ".parametrizations." in name
        else (name.rpartition(".")[0])
    )
