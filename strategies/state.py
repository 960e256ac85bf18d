"""What a strategy keeps from round to round, for checkpoints.

Flower's strategies keep it in attributes: moments, the last model, a clipping norm.  All are
saved but functions, which the settings make again.
"""

from __future__ import annotations

from functools import partial
from inspect import isroutine
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord
from flwr.serverapp.strategy import Strategy

from fedcomp.checkpoint.tree import flatten, rebuild
from fedcomp.wire.records import from_record, to_record

if TYPE_CHECKING:
    from fedcomp.tensors import Tensors


class StrategyState:
    """Saves the attributes of a strategy, and of strategies that it wraps."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return all attributes; `ConfigError` names one of a type that cannot be saved."""
        return flatten(_attributes(self._strategy), f"strategy {type(self._strategy).__name__}:")

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:
        """Set the attributes."""
        _set(self._strategy, rebuild(arrays, values))


def _attributes(strategy: Strategy) -> dict[str, dict[str, Any]]:
    """Return attributes by what they are: strategies, Flower's records, and plain values."""
    found: dict[str, dict[str, Any]] = {"strategy": {}, "record": {}, "attribute": {}}
    for name, value in vars(strategy).items():
        if isinstance(value, Strategy):
            found["strategy"][name] = _attributes(value)
        elif isinstance(value, ArrayRecord):
            found["record"][name] = from_record(value)
        elif not (isroutine(value) or isinstance(value, type | partial)):
            found["attribute"][name] = value
    return found


def _set(strategy: Strategy, found: dict[str, dict[str, Any]]) -> None:
    for name, value in found["strategy"].items():
        _set(getattr(strategy, name), value)
    for name, value in found["record"].items():
        setattr(strategy, name, to_record(value))
    for name, value in found["attribute"].items():
        setattr(strategy, name, value)
