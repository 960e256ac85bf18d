"""Composing a run's configuration with Hydra; the only file that knows Hydra and OmegaConf.

Hydra stops at the first error.  `problems` looks at all overrides first and names every wrong one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedcomp.errors import ConfigError, suggest
from fedcomp.settings import parse

if TYPE_CHECKING:
    from collections.abc import Callable

    from hydra.core.config_loader import ConfigLoader

PACKAGED = ("uplink", "downlink")
"""Places at which the group `codec` is mounted."""


def config_dir() -> Path:
    """Return the folder of the shipped configuration: beside this module, or in a checkout."""
    installed = Path(__file__).parent / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "conf"


def compose_config(overrides: list[str], folder: Path | None = None) -> dict[str, Any]:
    """Return the resolved configuration as plain values; `ConfigError` names all that is wrong.

    Parameters
    ----------
    overrides
        As on the command line.
    folder
        Where the configuration lies; by default the shipped one.
    """
    with initialize_config_dir(str(folder or config_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        parsed, problems = _parse(overrides)
        groups = _groups(loader)
        chosen, values = _choices(parsed, groups, problems)
        base = _compose(chosen, problems)
        if base is None:
            raise ConfigError(problems)
        good = [o for o in values if _key_is_known(o, base, groups, problems)]
        good = [o for o in good if _type_fits(o, base, problems)]
        config = _compose([*chosen, *good], problems)
        plain = _plain(config if config is not None else base, problems)
    try:
        parse(plain)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return plain


def plain_config(config: DictConfig) -> dict[str, Any]:
    """Return what Hydra composed as plain values."""
    container = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in container.items()}  # type: ignore[union-attr]


def as_yaml(config: dict[str, Any]) -> str:
    """Return a configuration as it would be written in a file."""
    return OmegaConf.to_yaml(OmegaConf.create(config))


def run_hydra(arguments: list[str], task: Callable[[dict[str, Any], str], None]) -> None:
    """Let Hydra make the run folder and call `task` with the configuration and that folder."""
    import sys

    import hydra
    from hydra.core.hydra_config import HydraConfig

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def main(config: DictConfig) -> None:
        task(plain_config(config), HydraConfig.get().runtime.output_dir)

    before = sys.argv
    sys.argv = ["fedcomp", *arguments]
    try:
        main()
    finally:
        sys.argv = before


def group_choices() -> dict[str, list[str]]:
    """Return the options of every group, for the help text."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return _groups(GlobalHydra.instance().config_loader())


def _parse(overrides: list[str]) -> tuple[list[Override], list[str]]:
    parser, parsed, problems = OverridesParser.create(), [], []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            problems.append(f"{text}: is not of the form key=value ({_first_line(error)})")
    return parsed, problems


def _groups(loader: ConfigLoader) -> dict[str, list[str]]:
    """Return group (as it is written on the command line) to its options."""
    found: dict[str, list[str]] = {}
    for group in loader.list_groups(""):
        options = [str(option) for option in loader.get_group_options(group)]
        if group == "codec":
            found.update({f"codec@{place}": options for place in PACKAGED})
        elif options and group != "hydra":
            found[group] = options
    return found


def _choices(
    parsed: list[Override], groups: dict[str, list[str]], problems: list[str]
) -> tuple[list[Override], list[Override]]:
    """Divide overrides in good choices of options, and values."""
    chosen: list[Override] = []
    values: list[Override] = []
    for override in parsed:
        name = override.get_key_element().lstrip("+~")
        if override.key_or_group.startswith("hydra"):
            chosen.append(override)
        elif name not in groups:
            values.append(override)
        elif (value := str(override.value())) in (*groups[name], "null", "None"):
            chosen.append(override)
        else:
            problems.append(
                f"{name}={value}: there is no such option{suggest(value, groups[name])}"
            )
    return chosen, values


def _compose(overrides: list[Override], problems: list[str]) -> DictConfig | None:
    try:
        return compose("config", overrides=[str(o.input_line) for o in overrides])
    except (HydraException, OmegaConfBaseException) as error:
        problems.append(_first_line(error))
        return None


def _key_is_known(
    override: Override, base: DictConfig, groups: dict[str, list[str]], problems: list[str]
) -> bool:
    """Tell whether a value's key exists; `+key` may add where its group takes any key."""
    if override.type in (OverrideType.ADD, OverrideType.FORCE_ADD):
        return True
    *parents, last = override.key_or_group.split(".")
    node: Any = base
    for depth, part in enumerate((*parents, last)):
        known = [str(key) for key in node] if OmegaConf.is_dict(node) else []
        if part not in known:
            path = ".".join((*parents, last)[: depth + 1])
            allowed = {*known, *(groups if depth == 0 else ())}
            problems.append(
                f"{override.input_line}: there is no key {path}{suggest(part, allowed)}"
            )
            return False
        node = node[part]
    return True


def _type_fits(override: Override, base: DictConfig, problems: list[str]) -> bool:
    """Check a strategy's argument against the type of its default; the rest `parse` checks."""
    if not override.key_or_group.startswith("strategy.") or override.key_or_group.endswith("_"):
        return True
    default = OmegaConf.select(base, override.key_or_group)
    value = override.value()
    allowed = (int, float) if isinstance(default, float) else type(default)
    if default is None or (isinstance(value, allowed) and type(value) is not bool):
        return True
    kind = "a number" if isinstance(default, float) else f"of type {type(default).__name__}"
    problems.append(f"{override.input_line}: must be {kind}, such as the default {default}")
    return False


def _plain(config: DictConfig, problems: list[str]) -> dict[str, Any]:
    try:
        return plain_config(config)
    except OmegaConfBaseException as error:
        problems.append(_first_line(error))
        raise ConfigError(problems) from error


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error).strip().splitlines()[0])
