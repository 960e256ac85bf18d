"""Groups of runs that differ in nothing but the seed, and short names that tell them apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fedcomp.config import stored_config
from fedcomp.dotted import as_text, is_within, leaves

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fedcomp.report.runs import Run

Settings: TypeAlias = "Mapping[str, str]"
"""The settings of a run under dotted names, as a person would write them."""

SILENT = {
    *("seed", "data_dir", "targets", "verbose", "checkpoint_every", "resume", "resume_allow"),
    *("sweep", "tracker", "dataset.download", "dataset.verify"),
}
"""What says nothing of a run's result, or is looked at by itself."""

TASK = ("dataset", "partition", "model", "clients", "fraction", "metric")
"""Settings, and groups of them, in which runs that are compared should agree."""

OWN = ("dataset.server_data",)
"""Those among them that belong to a method all the same."""

_OF_ENGINE = ("name", "min_results", "round_timeout")
_NAMES = ("name", "_target_")
_SHOWN = 3
_LONGEST = 60


@dataclass(frozen=True)
class Group:
    """Runs with the same settings and several seeds.

    Attributes
    ----------
    label
        The method, and what tells it from other groups of that method.
    """

    label: str
    runs: tuple[Run, ...]
    settings: Settings

    @property
    def method(self) -> str:
        """The name under which the runs are reported."""
        return self.runs[0].method

    @property
    def is_finished(self) -> bool:
        """Whether all of its runs are."""
        return all(run.is_finished for run in self.runs)

    @property
    def seeds(self) -> list[Any]:
        """The seed of each run."""
        return [run.summary.get("seed") for run in self.runs]


def settings_of(run: Run) -> Settings:
    """Return what a run was told; where that is not stored, as much as its summary says.

    What is not set says nothing.
    """
    if not (run.folder / ".hydra" / "config.yaml").is_file():
        names = ("method", "dataset", "model")
        named = {f"{name}.name": str(run.summary[name]) for name in names}
        return {**named, **{k: str(run.summary[k]) for k in ("clients",) if k in run.summary}}
    config = stored_config(run.folder)
    engine = config.get("engine")
    if isinstance(engine, dict):
        config["engine"] = {name: engine[name] for name in _OF_ENGINE if name in engine}
    return {
        name: as_text(value)
        for name, value in leaves({"network": {"name": "none"}, **config})
        if value not in (None, {}) and not SILENT & {name, name.partition(".")[0]}
    }


def group(runs: Iterable[Run]) -> list[Group]:
    """Put runs that differ in their seeds alone together, in the order in which they come."""
    found: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        settings = {**settings_of(run), "metric": run.metric}
        found.setdefault(tuple(sorted(settings.items())), []).append(run)
    groups = [Group(members[0].method, tuple(members), dict(key)) for key, members in found.items()]
    by_method: dict[str, list[Group]] = {}
    for one in groups:
        by_method.setdefault(one.method, []).append(one)
    task = [name for name in unlike([one.settings for one in groups]) if is_in(name, TASK)]
    labels = {
        id(one): label
        for method, several in by_method.items()
        for one, label in zip(
            several, _labels(method, [g.settings for g in several], task), strict=True
        )
    }
    return [Group(labels[id(one)], one.runs, one.settings) for one in groups]


def is_in(name: str, places: Iterable[str]) -> bool:
    """Tell whether a setting is one of these, or belongs to one, and not to a method.

    Examples
    --------
    >>> is_in("model.width", ["model"]), is_in("models", ["model"])
    (True, False)
    """
    there = any(is_within(name, place) for place in places)
    return there and (name not in OWN or name in places)


def unlike(settings: Sequence[Settings]) -> list[str]:
    """Return the names that have several values, of `differing`; where one is absent it may be any.

    Examples
    --------
    >>> unlike([{"rounds": "1"}, {"rounds": "1", "fraction": "0.5"}, {"fraction": "1.0"}])
    ['fraction']
    """
    return [
        name
        for name in differing(settings)
        if len({given[name] for given in settings if name in given}) > 1
    ]


def differing(settings: Sequence[Settings]) -> list[str]:
    """Return the names that do not have the same value everywhere, the most telling ones first.

    Where components of different names are compared, their own settings differ of themselves.

    Examples
    --------
    >>> one = {"uplink.name": "stc", "uplink.density": "0.1", "train.lr": "1"}
    >>> differing([one, {"uplink.name": "none", "train.lr": "1"}])
    ['uplink.name']
    >>> differing([one, {**one, "uplink.density": "0.2", "rounds": "9"}])
    ['rounds', 'uplink.density']
    """
    names = {name for given in settings for name in given}
    odd = {name for name in names if len({given.get(name) for given in settings}) > 1}
    found = [name for name in odd if not _implied(name, settings)]
    return sorted(found, key=lambda name: (not _is_component(name), name.count("."), name))


def _implied(name: str, settings: Sequence[Settings]) -> bool:
    """Tell whether a setting differs only where components of different names stand."""
    if _is_component(name):
        return False
    part = name.partition(".")[0]
    kinds: dict[tuple[str | None, ...], set[str | None]] = {}
    for given in settings:
        kind = tuple(given.get(f"{part}.{key}") for key in _NAMES)
        kinds.setdefault(kind, set()).add(given.get(name))
    return "." in name and all(len(values) == 1 for values in kinds.values())


def _is_component(name: str) -> bool:
    return name.rpartition(".")[2] in _NAMES


def _labels(method: str, settings: Sequence[Settings], always: Sequence[str] = ()) -> list[str]:
    """Return a label for each group of a method: as few settings as tell them apart, and a few.

    Examples
    --------
    >>> one = {"uplink.density": "0.1", "network.name": "4g"}
    >>> _labels("stc", [one, {**one, "uplink.density": "0.2"}])
    ['stc uplink.density=0.1', 'stc uplink.density=0.2']
    >>> _labels("stc", [one]), _labels("stc", [one], ["network.name"])
    (['stc'], ['stc network=4g'])
    """
    names = differing(settings)
    needed = list(always)
    kinds = len({tuple(given.get(n) for n in needed) for given in settings})
    for name in names:
        more = len({tuple(given.get(n) for n in [*needed, name]) for given in settings})
        if more > kinds:
            needed.append(name)
            kinds = more
    others = [name for name in names if name not in needed]
    room = max(_SHOWN - len(needed), 0)
    end = " …" if len(others) > room else ""
    shown = [*needed, *others[:room]]
    return [" ".join([method, *_words(given, shown)]) + end for given in settings]


def _words(given: Settings, names: Iterable[str]) -> list[str]:
    return [f"{short(name)}={short_value(given[name])}" for name in names if name in given]


def short(name: str) -> str:
    """Return a setting's name as the command line has it.

    Examples
    --------
    >>> short("network.name"), short("strategy._target_"), short("uplink.density")
    ('network', 'strategy', 'uplink.density')
    """
    return name.rpartition(".")[0] if _is_component(name) and "." in name else name


def short_value(value: str) -> str:
    """Return the last part of a dotted name of a class, anything else as it is.

    Examples
    --------
    >>> short_value("flwr.serverapp.strategy.FedAdam"), short_value("0.05"), short_value("a.b")
    ('FedAdam', '0.05', 'a.b')
    """
    last = value.rpartition(".")[2]
    found = last if value.count(".") > 1 and last.isidentifier() else value
    found = "".join(sign if sign.isprintable() else "?" for sign in found)
    half = _LONGEST // 2
    return found if len(found) <= _LONGEST else f"{found[:half]}…{found[-half:]}"
