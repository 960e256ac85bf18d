"""Composing a run's configuration with Hydra; the only file that knows Hydra and OmegaConf.

Hydra stops at the first error.  `compose_config` looks at all overrides first and names every wrong
one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedcomp.errors import ConfigError, DataError, suggest
from fedcomp.settings import parse
from fedcomp.storage import save_text

if TYPE_CHECKING:
    from collections.abc import Callable

MOUNTS = ("uplink", "downlink")
"""Places at which the group `codec` is mounted."""

HYDRA_KEYS = ("hydra.run.dir", "hydra.searchpath")
"""What may be changed of Hydra itself."""

MOST_JOBS = 10_000
"""A sweep that names more is taken for a slip of the hand."""

_NO_FOLDER = ("", "None", "???")


def config_dir() -> Path:
    """Return the folder of the shipped configuration: beside this module, or in a checkout."""
    installed = Path(__file__).parent / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "conf"


def compose_config(overrides: list[str]) -> dict[str, Any]:
    """Return the resolved configuration as plain values; `ConfigError` names all that is wrong.

    Parameters
    ----------
    overrides
        As on the command line.
    """
    problems: list[str] = []
    plain, base = _composed(overrides, problems)
    _check_strategy(plain, _container(base), problems)
    try:
        parse(plain)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return plain


def compose_group(name: str, overrides: list[str], problems: list[str]) -> dict[str, Any]:
    """Return the values of one group, unchecked; what is wrong is added and left out."""
    return dict(_composed(overrides, problems)[0][name])


def _composed(overrides: list[str], problems: list[str]) -> tuple[dict[str, Any], DictConfig]:
    """Return the plain values, and the configuration without the overrides of single values."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        parsed, found = _parse(overrides, sweep=False)
        problems += found
        groups = _groups(parsed)
        chosen, values, failed = _sort(parsed, groups, problems)
        base = _compose(chosen, problems)
        good = [o for o in values if _may_stand(o, base, groups, failed, problems)]
        config = _compose([*chosen, *good], problems) if good else base
        return _resolve(config, base, problems), base


def compose_file(name: str, overrides: list[str], problems: list[str]) -> dict[str, Any]:
    """Return the values of `conf/<name>.yaml`, which stands alone, with overrides.

    What is wrong is added to `problems` and left out.
    """
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        parsed, found = _parse(overrides, sweep=False)
        problems += found
        base = _compose([], problems, name)
        good = [o for o in parsed if _may_stand(o, base, {}, set(), problems)]
        return _resolve(_compose(good, problems, name), base, problems)


def split_sweep(overrides: list[str], problems: list[str]) -> tuple[list[list[str]], str | None]:
    """Return the words that each override stands for, and `hydra.run.dir` if it is among them.

    What cannot be split is added to `problems` and left out.
    """
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        parsed, found = _parse(overrides, sweep=True)
        problems += found
        given = Counter(override.get_key_element() for override in parsed)
        choices: list[list[str]] = []
        folder = None
        for override in parsed:
            text, key = str(override.input_line), override.get_key_element()
            swept = override.is_sweep_override()
            if key == HYDRA_KEYS[0]:
                folder = str(override.value())
                if swept or "${" in folder or folder in _NO_FOLDER:
                    problems.append(f"{text}: has to name one folder, for all jobs")
            elif swept and given[key] > 1:
                problems.append(f"{text}: {key} is given {given[key]} times")
            elif swept and not override.is_discrete_sweep():
                problems.append(f"{text}: has countless values; name some, or a range(…)")
            elif words := _alternatives(override):
                choices.append(words)
            else:
                problems.append(f"{text}: names no value")
    return choices, folder


def run_folder(folder: Path) -> str:
    """Return the override that makes a folder the run folder, whatever its name."""
    return path_word(HYDRA_KEYS[0], folder)


def path_word(key: str, path: Path) -> str:
    """Return the override that gives a key a path, whatever its name."""
    return f"{key}={QuotedString(str(path), Quote.single).with_quotes()}"


def _alternatives(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    values = islice(override.sweep_string_iterator(), MOST_JOBS + 1)
    return [f"{override.get_key_element()}={value}" for value in values]


def _container(config: DictConfig) -> dict[str, Any]:
    """Return a configuration as plain values."""
    container = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in container.items()}  # type: ignore[union-attr]


def as_yaml(config: dict[str, Any] | list[str]) -> str:
    """Return a configuration as it would be written in a file."""
    return OmegaConf.to_yaml(OmegaConf.create(config))


def run_hydra(
    words: list[str], task: Callable[[dict[str, Any], str], None], folder: Path | None = None
) -> None:
    """Let Hydra make the run folder and call `task` with the configuration and that folder.

    Parameters
    ----------
    folder
        A run folder that is there already.
    """
    import os
    import sys

    import hydra
    from hydra.core.hydra_config import HydraConfig

    failed: list[Exception] = []

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def main(config: DictConfig) -> None:
        place = HydraConfig.get().runtime.output_dir
        try:
            task(_container(config), place)
        except Exception as error:
            failed.append(error)  # raised again below: Hydra would print words of its own

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to our own handler, not to Hydra's
    before = sys.argv
    there = [run_folder(folder), "hydra.output_subdir=null"] if folder is not None else []
    sys.argv = ["fedcomp", *(word for word in words if word != "experiment=null"), *there]
    try:
        main()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_first_line(error)) from error
    finally:
        sys.argv = before
    if failed:
        raise failed[0]


def store(folder: Path, config: dict[str, Any], words: list[str] | None = None) -> None:
    """Write anew what Hydra stores in a run folder; without words the configuration alone."""
    place = folder / ".hydra"
    place.mkdir(exist_ok=True)
    if words is not None:
        given = [word for word in words if not word.startswith("hydra.")]
        save_text(as_yaml(given), place / "overrides.yaml")
    save_text(as_yaml(config), place / "config.yaml")


def stored_group(folder: Path, name: str) -> dict[str, Any]:
    """Return the settings of a group as they stand in a run folder, as plain values."""
    path = folder / ".hydra" / "config.yaml"
    try:
        return _container(OmegaConf.select(OmegaConf.load(path), name))
    except FileNotFoundError:
        msg = f"{path} is missing: only the command fedcomp writes it"
        raise DataError(msg) from None
    except Exception as error:  # a damaged file makes the reader raise almost anything
        msg = f"{path} holds no settings of {name} ({type(error).__name__})"
        raise DataError(msg) from error


def stored_config(folder: Path) -> dict[str, Any]:
    """Return all settings as they stand in a run folder; of hundreds of runs in a second or two."""
    import yaml

    path = folder / ".hydra" / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        if "${" in text:
            return _container(OmegaConf.create(text))  # type: ignore[arg-type]
        # OmegaConf's own loader takes ten times as long.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return {str(key): value for key, value in yaml.load(text, loader).items()}  # noqa: S506
    except Exception as error:  # a damaged file makes the reader raise almost anything
        msg = f"{path} does not hold the settings of a run ({type(error).__name__})"
        raise DataError(msg) from error


def group_choices() -> dict[str, list[str]]:
    """Return the options of every group, for the help text."""
    return _groups([])


def _parse(overrides: list[str], *, sweep: bool) -> tuple[list[Override], list[str]]:
    """Parse overrides; `experiment=null` is the default and says nothing."""
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    parsed, problems = [], []
    for text in overrides:
        try:
            (override,) = parser.parse_overrides([text])
        except HydraException as error:
            problems.append(f"{text}: is not of the form key=value ({_first_line(error)})")
            continue
        if override.is_sweep_override() and not sweep:
            problems.append(f"{text}: names several values; a run takes one, fedcomp -m all")
        elif text != "experiment=null":
            parsed.append(override)
    return parsed, problems


def _groups(parsed: list[Override]) -> dict[str, list[str]]:
    """Return each group, as it is written on the command line, with its options.

    Folders in `hydra.searchpath` add options, so that a codec of another package needs no fork.
    """
    found: dict[str, set[str]] = {}
    given = [o.value() for o in parsed if o.key_or_group == "hydra.searchpath"]
    more = (str(place) for places in given if isinstance(places, list) for place in places)
    for place in (config_dir(), *(Path(name.removeprefix("file://")) for name in more)):
        for path in place.glob("*/*.yaml"):
            found.setdefault(path.parent.name, set()).add(path.stem)
    codecs = sorted(found.pop("codec", ()))
    known = {f"codec@{mount}": codecs for mount in MOUNTS}
    known |= {name: sorted(options) for name, options in sorted(found.items())}
    return known


def _sort(
    parsed: list[Override], groups: dict[str, list[str]], problems: list[str]
) -> tuple[list[Override], list[Override], set[str]]:
    """Divide overrides in good choices of options, and values; name the groups with bad ones."""
    chosen: list[Override] = []
    values: list[Override] = []
    failed: set[str] = set()
    for override in parsed:
        text, key = override.input_line, override.key_or_group
        name = override.get_key_element().lstrip("+~")
        if key.startswith("hydra"):
            if key == HYDRA_KEYS[0] and str(override.value()) in _NO_FOLDER:
                problems.append(f"{text}: names no folder")
            elif key in HYDRA_KEYS:
                chosen.append(override)
            else:
                problems.append(f"{text}: of Hydra only {' and '.join(HYDRA_KEYS)} may be set")
        elif name not in groups:
            values.append(override)
        elif override.type is OverrideType.CHANGE and str(override.value()) in groups[name]:
            chosen.append(override)
        else:
            failed.add(name.rpartition("@")[2])
            given = "" if override.is_delete() else str(override.value())
            problems.append(f"{text}: there is no such option{suggest(given, groups[name])}")
    return chosen, values, failed


def _compose(overrides: list[Override], problems: list[str], name: str = "config") -> DictConfig:
    """Compose with all overrides, or where that fails with those that work one after the other."""
    texts = [str(override.input_line) for override in overrides]
    try:
        return compose(name, overrides=texts)
    except (HydraException, OmegaConfBaseException, ValueError):
        good: list[str] = []
        for text in texts:
            try:
                compose(name, overrides=[*good, text])
                good.append(text)
            except (HydraException, OmegaConfBaseException, ValueError) as error:
                problems.append(f"{text}: {_first_line(error)}")
        return compose(name, overrides=good)


def _may_stand(
    override: Override,
    base: DictConfig,
    groups: dict[str, list[str]],
    failed: set[str],
    problems: list[str],
) -> bool:
    """Tell whether a value's key exists; keys are added and removed below `strategy` only."""
    text, path = override.input_line, override.key_or_group.split(".")
    if path[0] in failed:
        return False  # its option is wrong; what keys the right one has, nobody knows
    if override.type is not OverrideType.CHANGE:
        if path[0] == "strategy" and len(path) == 2 and path[1] != "_target_":
            return True
        problems.append(f"{text}: keys can be added or removed below strategy only")
        return False
    node: Any = base
    for depth, part in enumerate(path):
        known = [str(key) for key in node] if OmegaConf.is_dict(node) else []
        if part not in known:
            hint = suggest(part, {*known, *(groups if depth == 0 else ())})
            if part == "codec":
                hint = "; choose codec@uplink or codec@downlink"
            of = _chosen(base, path[0]) if depth else ""
            problems.append(f"{text}: there is no key {'.'.join(path[: depth + 1])}{of}{hint}")
            return False
        node = node._get_node(part)
    if OmegaConf.is_dict(node):
        place = _place(path[0])
        whole, first = ".".join(path), next(iter(node), "")
        better = f"{place}=… or one key" if len(path) == 1 else f"one key: {whole}.{first}=…"
        problems.append(f"{text}: {whole} holds settings of its own; choose {better}")
        return False
    return True


def _place(key: str) -> str:
    """Return what chooses the option whose settings lie below a key."""
    return f"codec@{key}" if key in MOUNTS else key


def _chosen(base: DictConfig, key: str) -> str:
    """Return by which option a key has the settings that it has, where that has a name."""
    name = base[key].get("name") if OmegaConf.is_dict(base[key]) else None
    return f" with {_place(key)}={name}" if name else ""


def _resolve(config: DictConfig, base: DictConfig, problems: list[str]) -> dict[str, Any]:
    """Return plain values; an interpolation that fails is named, and the default stands in."""
    while True:
        try:
            return _container(config)
        except OmegaConfBaseException as error:
            key = str(error.full_key)
            problems.append(f"{key}: {_first_line(error)}")
            OmegaConf.update(config, key, OmegaConf.select(base, key), force_add=True)


def _check_strategy(plain: dict[str, Any], base: dict[str, Any], problems: list[str]) -> None:
    """Check the strategy's arguments against the types of their defaults; `parse` has no class."""
    for key, value in plain["strategy"].items():
        default = base["strategy"].get(key)
        if value == "???" or (isinstance(value, float) and not math.isfinite(value)):
            problems.append(f"strategy.{key}={value}: must be a finite value")
            plain["strategy"] = {**plain["strategy"], key: default}
            continue
        allowed = (int, float) if isinstance(default, float) else type(default)
        if default is None or (isinstance(value, allowed) and type(value) is type(default)):
            continue
        if isinstance(value, int) and isinstance(default, float) and not isinstance(value, bool):
            continue
        kind = "a number" if isinstance(default, float) else f"of type {type(default).__name__}"
        problems.append(f"strategy.{key}={value}: must be {kind}, such as the default {default}")
        plain["strategy"] = {**plain["strategy"], key: default}


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error).strip().splitlines()[0])
