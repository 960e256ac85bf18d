"""A run's settings as plain typed values; everything below the command line takes these.

`parse` turns a resolved configuration into `Settings`, and names every wrong value at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le
from pydantic import Field

from fedcomp import __version__
from fedcomp.building import attempting, build, build_codec, build_named
from fedcomp.codecs import CODECS, Codec
from fedcomp.conflicts import conflicts
from fedcomp.data import DATASETS, PARTITIONS, DatasetSettings, Partition
from fedcomp.errors import ConfigError
from fedcomp.link.settings import LinkSettings
from fedcomp.methods import RECIPES, SERVER_STEPS, Recipe, StepSettings
from fedcomp.models import MODELS, ModelSettings
from fedcomp.network import Network
from fedcomp.registry import Registry
from fedcomp.report.trackers import TRACKERS, TrackerSettings
from fedcomp.runtime import EngineSettings
from fedcomp.sweep.settings import SweepSettings
from fedcomp.training.settings import TrainSettings

Scalar = bool | int | float | str | None

ENGINES: Registry[type[EngineSettings]] = Registry(
    "engine",
    {
        "flower": "fedcomp.engines.flower:FlowerEngine",
        "inline": "fedcomp.engines.inline:InlineEngine",
        "superlink": "fedcomp.engines.superlink:SuperLinkEngine",
    },
)

GROUPS: dict[str, Registry[Any]] = {
    "recipe": RECIPES,
    "server_step": SERVER_STEPS,
    "dataset": DATASETS,
    "partition": PARTITIONS,
    "model": MODELS,
    "uplink": CODECS,
    "downlink": CODECS,
    "engine": ENGINES,
    "tracker": TRACKERS,
}
"""Top-level keys whose value is a component with a `name` and settings of its own."""


@dataclass(frozen=True)
class MethodSettings:
    """The name under which a combination of recipe, codecs and server step is reported."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]


@dataclass(frozen=True)
class StrategySettings:
    """The aggregator: a class by its path, and the arguments of its constructor."""

    target: str
    options: Mapping[str, Scalar]


@dataclass(frozen=True)
class General:
    """The settings of a run that belong to no group."""

    clients: Annotated[int, Ge(1)]
    rounds: Annotated[int, Ge(1)]
    fraction: Annotated[float, Gt(0), Le(1)]
    seed: Annotated[int, Ge(0)]
    data_dir: str
    targets: tuple[Annotated[float, Gt(0)], ...]
    checkpoint_every: Annotated[int, Ge(0)]
    verbose: bool


@dataclass(frozen=True)
class Settings(General):
    """All settings of a run."""

    method: MethodSettings
    train: TrainSettings
    strategy: StrategySettings
    recipe: Recipe
    server_step: StepSettings
    dataset: DatasetSettings
    partition: Partition
    model: ModelSettings
    uplink: Codec
    downlink: Codec
    engine: EngineSettings
    tracker: TrackerSettings
    link: LinkSettings
    network: Network
    sweep: SweepSettings

    @property
    def clients_per_round(self) -> int:
        """How many clients a round asks to train."""
        least = self.strategy.options.get("min_train_nodes") or 1
        return max(round(self.clients * self.fraction), int(least))


_PLAIN: dict[str, tuple[type[Any], str]] = {
    "method": (MethodSettings, "name"),
    "train": (TrainSettings, "optimizer"),
    "strategy": (StrategySettings, "_target_"),
    "link": (LinkSettings, ""),
    "network": (Network, "name"),
    "sweep": (SweepSettings, ""),
}
"""The groups that are no components: what they become, and a key that must be there."""


@dataclass(frozen=True)
class Job:
    """One run: its settings, the name of its state, and the folder of its results.

    Attributes
    ----------
    server_folder
        How a server elsewhere is told the folder; by default as it is called here.
    began
        Whether an earlier process has left a checkpoint.
    version
        That of the fedcomp that made it; both sides of a deployment have to run the same.
    """

    config: Mapping[str, Any]
    run_id: str
    folder: str
    server_folder: str = ""
    began: bool = False
    version: str = __version__
    settings: Settings = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", parse(self.config))

    @property
    def states(self) -> Path:
        """Where simulated clients keep their states, while the run lasts."""
        return Path(self.folder) / "state"

    def to_json(self) -> str:
        """Return the job as both Flower sides get it in their run config."""
        names = "config", "run_id", "folder", "began", "version"
        return json.dumps({name: getattr(self, name) for name in names})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def parse(config: Mapping[str, Any]) -> Settings:
    """Check a resolved configuration; raise one `ConfigError` with all that is wrong in it."""
    problems: list[str] = []
    attempt = attempting(problems)
    general_names = [f.name for f in fields(General)]
    given = {k: config[k] for k in general_names if k in config}
    general = attempt(build, General, given, "")
    parts: dict[str, Any] = {}
    needed = dict.fromkeys(GROUPS, "name") | {key: name for key, (_, name) in _PLAIN.items()}
    for key, name in needed.items():
        values = config.get(key)
        if not isinstance(values, Mapping) or not isinstance(values.get(name, ""), str):
            problems.append(f"{key}: one option of this group has to be chosen; see fedcomp --help")
        elif key in GROUPS:
            make = build_codec if GROUPS[key] is CODECS else partial(build_named, GROUPS[key])
            parts[key] = attempt(make, values, key)
        elif key == "strategy":
            options = dict(values)
            parts[key] = StrategySettings(options.pop("_target_", ""), options)
        else:
            parts[key] = attempt(build, _PLAIN[key][0], values, key)
    if problems or general is None:
        raise ConfigError(problems)
    parts |= {key: parts[key].over(general.rounds) for key in ("uplink", "downlink")}
    common = {name: getattr(general, name) for name in general_names}
    settings = Settings(**common, **parts)
    problems = conflicts(settings)
    if problems:
        raise ConfigError(problems)
    return settings
