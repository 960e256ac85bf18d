"""Making Flower's strategies from settings."""

from __future__ import annotations

from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from flwr.serverapp.strategy import FedAvg, Strategy

from fedcomp.errors import ConfigError, suggest

if TYPE_CHECKING:
    from fedcomp.settings import Settings


_COMMON = (
    "fraction_train",
    "fraction_evaluate",
    "min_train_nodes",
    "min_evaluate_nodes",
    "min_available_nodes",
)


def build_strategy(settings: Settings) -> Strategy:
    """Return the aggregator; raise `ConfigError` where its class or arguments are wrong.

    The share of clients is passed so that Flower's `int(nodes × fraction)` gives exactly the
    number that `Settings.clients_per_round` states.
    """
    path = settings.strategy.target
    cls = _find(path)
    if "strategy" in signature(cls).parameters:  # a wrapper, such as those of differential privacy
        return _wrapped(cls, settings)
    arguments: dict[str, Any] = {**_sampling(settings), **settings.strategy.options}
    accepted = signature(cls).parameters
    if not any(p.kind is Parameter.VAR_KEYWORD for p in accepted.values()):
        for name in _COMMON:  # the files' defaults mean nothing to a class that does without
            if name not in accepted:
                arguments.pop(name, None)
        unknown = [name for name in arguments if name not in accepted]
        if unknown:
            raise ConfigError(
                f"strategy.{name}: {path} takes no such argument{suggest(name, accepted)}"
                for name in unknown
            )
    return _make(cls, arguments)


def _sampling(settings: Settings) -> dict[str, Any]:
    asked, nodes = settings.clients_per_round, settings.clients
    return {
        "fraction_train": 1.0 if asked == nodes else (asked + 0.5) / nodes,
        **dict.fromkeys(("min_train_nodes", "min_evaluate_nodes", "min_available_nodes"), 1),
    }


def _wrapped(cls: type[Strategy], settings: Settings) -> Strategy:
    """Return a wrapper around federated averaging, told how many clients a round asks."""
    given = dict(settings.strategy.options)
    inner = {name: given.pop(name) for name in _COMMON if name in given}
    accepted = signature(cls).parameters
    unknown = [name for name in given if name not in accepted]
    if unknown:
        raise ConfigError(
            f"strategy.{name}: {settings.strategy.target} takes no such argument"
            f"{suggest(name, accepted)}"
            for name in unknown
        )
    if "num_sampled_clients" in accepted:
        given.setdefault("num_sampled_clients", settings.clients_per_round)
    return _make(cls, {"strategy": FedAvg(**{**_sampling(settings), **inner}), **given})


def _make(cls: type[Strategy], arguments: dict[str, Any]) -> Strategy:
    try:
        return cls(**arguments)
    except Exception as error:
        msg = f"strategy: {cls.__name__} refuses its arguments: {error}"
        raise ConfigError(msg) from error


def _find(path: str) -> type[Strategy]:
    module, _, name = path.rpartition(".")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        msg = (
            f"strategy._target_={path}: cannot be imported ({error}); it names a class by its full"
            " path, such as flwr.serverapp.strategy.FedAvg"
        )
        raise ConfigError(msg) from error
    if "secagg" in path.lower():
        msg = (
            f"strategy._target_={path}: secure aggregation adds up masked integers, and packets"
            " cannot be added before they are decoded; use an encrypted connection instead"
        )
        raise ConfigError(msg)
    if not (isinstance(cls, type) and issubclass(cls, Strategy)):
        msg = f"strategy._target_={path}: is not a flwr.serverapp.strategy.Strategy"
        raise ConfigError(msg)
    return cls
