"""Reading weights from a file, and putting them into a module; imports torch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from fedcomp.errors import ConfigError
from fedcomp.models.selection import head_of

if TYPE_CHECKING:
    from torch import nn

_LISTED = 5

_log = logging.getLogger(__name__)


def read_weights(path: str, key: str = "model.weights") -> dict[str, Tensor]:
    """Read safetensors (by the suffix) or a torch state dict, also one below `state_dict`.

    The prefix `module.`, which data-parallel training leaves, is taken off; no code is run.  Errors
    name the setting `key`.
    """
    file, source = Path(path), f"{key}={path}"
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        msg = f"{source}: {file.absolute()} {what}: name a file of safetensors or a state dict"
        raise ConfigError(msg)
    try:
        if file.suffix == ".safetensors":
            held: object = load_file(file)
        else:
            held = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torn or hostile bytes make the readers raise almost anything
        msg = (
            f"{source}: is damaged, or holds more than tensors ({type(error).__name__}): save the"
            " state dict alone, with torch.save or as safetensors"
        )
        raise ConfigError(msg) from error
    if isinstance(held, dict) and isinstance(held.get("state_dict"), dict):
        held = held["state_dict"]
    if not (isinstance(held, dict) and held and all(map(_is_entry, held.items()))):
        msg = f"{source}: holds no state dict: save model.state_dict(), names to tensors"
        raise ConfigError(msg)
    prefix = "module." if all(name.startswith("module.") for name in held) else ""
    return {name.removeprefix(prefix): value for name, value in held.items()}


def fill(module: nn.Module, given: dict[str, Tensor], outputs: int, source: str) -> None:
    """Copy finite tensors into a module; names and shapes have to fit, all but the head's.

    A head's tensors have a row for each output.  Where the number of rows alone is another one
    they keep their values and are named in a warning.  Counters may be missing, as in old files.
    """
    state = module.state_dict()
    replaceable = head_of(module)
    head: list[str] = []
    problems: list[str] = []
    for name in (*state, *(name for name in given if name not in state)):
        ours = tuple(state[name].shape) if name in state else None
        theirs = tuple(given[name].shape) if name in given else None
        if ours == theirs or (theirs is None and not state[name].is_floating_point()):
            continue
        fits = ours and theirs and ours[0] == outputs and ours[1:] == theirs[1:]
        if fits and name in replaceable:
            head.append(name)
        else:
            problems.append(f"{name} (given {_shown(theirs)}, expected {_shown(ours)})")
    if problems:
        listed, more = problems[:_LISTED], len(problems) - _LISTED
        rest = f" and {more} more" if more > 0 else ""
        msg = f"{source}: {len(problems)} of the tensors do not fit the model: "
        msg += f"{', '.join(listed)}{rest}: choose weights of this architecture"
        raise ConfigError(msg)
    with torch.no_grad():
        for name in state.keys() & given.keys() - set(head):
            try:
                state[name].copy_(given[name])
            except RuntimeError as error:  # a tensor without data, or a quantised one
                msg = f"{source}: {name} cannot be copied ({str(error).splitlines()[0]})"
                raise ConfigError(f"{msg}: save plain tensors") from error
            if not state[name].isfinite().all():
                msg = f"{source}: {name} holds values that are not finite, and training cannot"
                raise ConfigError(
                    f"{msg} start there: choose weights of a run that did not diverge"
                )
    if head:
        names = ", ".join(head)
        _log.warning("%s: made for another number of classes; %s start anew", source, names)


def _is_entry(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _shown(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else str(shape)
