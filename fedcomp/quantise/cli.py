"""The command `fedcomp-quantise`."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from fedcomp import __version__
from fedcomp.commands import code_of, key_of, leave, wide_console
from fedcomp.errors import ConfigError, suggest
from fedcomp.quantise.settings import QuantiseSettings
from fedcomp.signals import interrupting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.runtime import Hooks

SHARED = ("dataset", "model", "data_dir", "seed", "train", "experiment", "hydra.searchpath")
"""What fedcomp-quantise reads of the words of fedcomp."""

OF_TRAIN = ("device", "channels_last", "momentum", "weight_decay")

_HELP = """\
fedcomp-quantise {version} – a trained model to few levels a weight, in a standard stream

  fedcomp-quantise checkpoint=FILE dataset=NAME model=NAME [KEY=VALUE …]
                                quantise; results go to
                                outputs/quantise/<day>/<time>-<quantiser>-<dataset>/

Of the words of fedcomp these are read, see fedcomp --help:
  {shared}

Keys of its own, and their defaults:
{keys}

Examples:
  fedcomp-quantise checkpoint=resnet20.pt dataset=cifar10 model=resnet20 bits=4
  fedcomp-quantise checkpoint=resnet20.pt dataset=cifar10 model=resnet20 quantiser=nearest bits=5
  fedcomp-quantise checkpoint=outputs/…/model.safetensors dataset=digits model=mlp \\
      quantiser=deepcabac tolerance=0.005
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with 0, 1 (failed), 2 (wrong arguments) or 130 (interrupted)."""
    from fedcomp.runtime import Hooks

    given = list(sys.argv[1:] if arguments is None else arguments)
    hooks = Hooks()

    def work() -> None:
        with interrupting(hooks):
            _dispatch(given, hooks)

    leave(code_of("fedcomp-quantise", work))


def _dispatch(arguments: list[str], hooks: Hooks) -> None:
    flags = [word for word in arguments if word.startswith("-")]
    words = [word for word in arguments if not word.startswith("-")]
    if {"--help", "-h"} & set(flags):
        print(help_text(), end="")
        return
    if "--version" in flags:
        print(f"fedcomp-quantise {__version__}")
        return
    if flags:
        raise ConfigError(
            f"{flag}: there is no such flag; see fedcomp-quantise --help" for flag in flags
        )
    settings, config = configure(words)
    _run(settings, config, hooks)


def help_text() -> str:
    """Return what `--help` prints: the keys as the shipped file explains them."""
    from fedcomp.config import config_dir

    lines = (config_dir() / "quantise.yaml").read_text(encoding="utf-8").splitlines()
    keys = "\n".join(f"  {line}".rstrip() for line in lines[2:])
    shared = [name if name != "train" else f"train.{{{','.join(OF_TRAIN)}}}" for name in SHARED]
    return _HELP.format(version=__version__, shared=" ".join(shared), keys=keys)


def configure(words: list[str]) -> tuple[QuantiseSettings, dict[str, Any]]:
    """Return the settings, and the configuration of data and model; name all that is wrong."""
    from fedcomp.building import attempting, build
    from fedcomp.config import compose_config, compose_file

    problems: list[str] = []
    attempt = attempting(problems)
    names = {field.name for field in fields(QuantiseSettings)}
    own = [word for word in words if key_of(word).partition(".")[0] in names]
    shared = [word for word in words if word not in own and _is_read(word, names, problems)]
    values = compose_file("quantise", own, problems)
    if values["checkpoint"] is None:
        problems.append("checkpoint: is missing; name a trained model's file, checkpoint=FILE")
        values["checkpoint"] = "?"
    settings = attempt(build, QuantiseSettings, values, "")
    if settings is not None and settings.quantiser == "deepcabac" and settings.passes:
        problems.append(
            f"epochs={settings.epochs}: quantiser=deepcabac does not train; leave it out, or choose"
            " quantiser=ecq, ecqx or nearest"
        )
    config = attempt(compose_config, shared)
    if problems or settings is None or config is None:
        raise ConfigError(problems)
    return settings, config


def _run(settings: QuantiseSettings, config: dict[str, Any], hooks: Hooks) -> None:
    """Quantise and print."""
    from fedcomp.quantise.case import load_case
    from fedcomp.quantise.job import folder_of, run
    from fedcomp.quantise.report import closing, layer_table
    from fedcomp.settings import parse

    console = wide_console()

    def say(line: str) -> None:
        if hooks.stop.is_set():  # an interrupt that went nowhere
            raise KeyboardInterrupt
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    wanted = parse(config)
    folder = folder_of(settings, wanted.dataset.name)
    case = load_case(settings, wanted)
    found = run(case, settings, config, folder, say)
    console.print(layer_table(found))
    console.print(closing(found, case.metric, str(folder)))


def _is_read(word: str, own: set[str], problems: list[str]) -> bool:
    """Tell whether a word of fedcomp means something here."""
    key = key_of(word)
    top, _, below = key.partition(".")
    if top == "train" and below and below not in OF_TRAIN:
        better = f"; {below} is a key of its own" if below in own else ""
        problems.append(
            f"{word}: fedcomp-quantise does not read it{better}; of train it reads"
            f" {', '.join(OF_TRAIN)}"
        )
        return False
    if key not in SHARED and top not in SHARED:
        hint = suggest(top, {*own, *SHARED})
        problems.append(f"{word}: fedcomp-quantise has no key {top}{hint}")
        return False
    return True
