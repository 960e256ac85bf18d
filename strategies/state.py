"""What a strategy keeps from round to round, for checkpoints.

Flower's strategies keep it in attributes: moments, the last model, a clipping norm.  Those are
saved that are no longer what the settings made them, but for functions.
"""

from __future__ import annotations

from functools import partial
from inspect import isroutine
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

from fedcomp.checkpoint.tree import flatten, rebuild
from fedcomp.wire.records import from_record, to_record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.tensors import Tensors

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
            path: ({name: np.array(value) for name, value in arrays.items()}, rest)
            for path, (_, arrays, rest) in self._attributes()
        }

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the attributes that have changed."""
        found: Tensors = {}
        values = {}
        for path, (kind, arrays, rest) in self._attributes():
            if path not in self._made or not _equal(self._made[path], (arrays, rest)):
                found |= {f"{path}/{name}": value for name, value in arrays.items()}
                values[path] = [kind, rest]
        return found, values

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        """Set the attributes that had changed."""
        for path, (kind, rest) in values.items():
            head = f"{path}/"
            mine = {k.removeprefix(head): v for k, v in arrays.items() if k.startswith(head)}
            value = rebuild(mine, rest)
            *owners, name = path.split(".")
            owner = self._strategy
            for inner in owners:
                owner = getattr(owner, inner)
            setattr(owner, name, to_record(value) if kind == _RECORD else value)

    def _attributes(self) -> Iterator[tuple[str, tuple[str, Tensors, Any]]]:
        """Return the path of each attribute, its kind, and what `flatten` makes of it."""
        for path, value in _walk(self._strategy):
            kind = _RECORD if isinstance(value, ArrayRecord) else _PLAIN
            plain = from_record(value) if kind == _RECORD else value
            yield path, (kind, *flatten(plain, f"{self._where} {path}"))


def _walk(strategy: Strategy, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in vars(strategy).items():
        if isinstance(value, Strategy):
            yield from _walk(value, f"{before}{name}.")
        elif not (isroutine(value) or isinstance(value, type | partial)):
            yield f"{before}{name}", value


def _equal(one: tuple[Tensors, Any], other: tuple[Tensors, Any]) -> bool:
    (left, rest), (right, other_rest) = one, other
    return rest == other_rest and all(
        left[name].dtype == value.dtype and np.array_equal(left[name], value)
        for name, value in right.items()
    )
