"""What a strategy keeps from round to round, for checkpoints.

Flower's strategies keep it in attributes: moments, the last model, a clipping norm.  Those are
saved that are no longer what the settings made them, but for functions.
"""

from __future__ import annotations

import json
from functools import partial
from inspect import isroutine
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

from fedcomp.checkpoint.tree import flatten, rebuild
from fedcomp.errors import DataError
from fedcomp.tensors import below
from fedcomp.wire.records import from_record, to_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.tensors import Array, Tensors

_RECORD, _PLAIN = "record", "plain"


class StrategyState:
    """Saves the attributes of a strategy, and of strategies that it wraps.

    `ConfigError` names an attribute of a type that cannot be saved: one that is there from the
    start at once.

    Parameters
    ----------
    strategy
        As the settings make it, before its first round.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._where = f"strategy {type(strategy).__name__}:"
        self._made = {
            path: (kind, {name: np.array(value) for name, value in arrays.items()}, rest)
            for path, (kind, arrays, rest) in self._attributes().items()
        }

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the attributes that have changed."""
        found: Tensors = {}
        changed = {}
        for path, (kind, arrays, rest) in self._attributes().items():
            if not self._is_made(path, kind, arrays, rest):
                found |= {f"{path}/{name}": value for name, value in arrays.items()}
                changed[path] = [kind, rest]
        return found, {"class": _path(self._strategy), "changed": changed}

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        """Set the attributes that had changed, and put back all others."""
        if values["class"] != (mine := _path(self._strategy)):
            msg = (
                f"the run began with the strategy {values['class']}, now it is {mine}: neither can"
                " go on from what the other keeps"
            )
            raise DataError(msg)
        for path, now in self._attributes().items():
            if path not in self._made:
                owner, name = self._owner(path)
                delattr(owner, name)
            elif not self._is_made(path, *now):
                self._set(path, *self._made[path])
        for path, (kind, rest) in values["changed"].items():
            self._set(path, kind, below(f"{path}/", arrays), rest)

    def _attributes(self) -> dict[str, tuple[str, Tensors, Any]]:
        """Return each attribute's kind and what `flatten` makes of it, by its path."""
        found = {}
        for path, value in _walk(self._strategy, "", set()):
            kind = _RECORD if isinstance(value, ArrayRecord) else _PLAIN
            plain = from_record(value) if kind == _RECORD else value
            found[path] = (kind, *flatten(plain, f"{self._where} {path}"))
        return found

    def _is_made(self, path: str, kind: str, arrays: Tensors, rest: Any) -> bool:
        """Tell whether an attribute is what the settings made it, to the type and the bit."""
        if path not in self._made:
            return False
        made, its_arrays, its_rest = self._made[path]
        return (
            kind == made
            and json.dumps(rest) == json.dumps(its_rest)
            and all(_same(value, its_arrays[name]) for name, value in arrays.items())
        )

    def _set(self, path: str, kind: str, arrays: Tensors, rest: Any) -> None:
        owner, name = self._owner(path)
        value = rebuild({key: np.array(array) for key, array in arrays.items()}, rest)
        setattr(owner, name, to_record(value) if kind == _RECORD else value)

    def _owner(self, path: str) -> tuple[Strategy, str]:
        *inner, name = path.split(".")
        owner = self._strategy
        for step in inner:
            owner = getattr(owner, step)
        return owner, name


def _walk(strategy: Strategy, before: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a strategy, and of those that it holds: each of these once."""
    seen.add(id(strategy))
    for name, value in vars(strategy).items():
        if isinstance(value, Strategy):
            if id(value) not in seen:
                yield from _walk(value, f"{before}{name}.", seen)
        elif not (isroutine(value) or isinstance(value, type | partial)):
            yield f"{before}{name}", value


def _same(one: Array, other: Array) -> bool:
    key = [(value.dtype, value.shape) for value in (one, other)]
    return key[0] == key[1] and one.tobytes() == other.tobytes()


def _path(strategy: Strategy) -> str:
    return f"{type(strategy).__module__}.{type(strategy).__qualname__}"
