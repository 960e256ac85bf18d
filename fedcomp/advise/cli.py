"""The command `fedcomp-advise`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from fedcomp import __version__
from fedcomp.commands import code_of, key_of, leave, wide_console
from fedcomp.errors import ConfigError, DataError, FedcompError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.advise.record import Update
    from fedcomp.setup import Setup

METHOD = "method=fedavg"
"""What is trained and averaged unless somebody says otherwise: codecs alone are looked at."""

_TAKEN = ("codec@uplink", "uplink", "resume", "hydra.run.dir")

_HELP = """\
fedcomp-advise {version} – which codec brings an update through a budget, and what it loses

  fedcomp-advise [KEY=VALUE …] --budget SIZE
  fedcomp-advise [KEY=VALUE …] --network lan|wifi|4g|5g|iot --seconds S

Codecs are tried on an update of the run that the words, those of fedcomp, describe: one client's
after a few short rounds of plain averaging, recorded here at the first time.

  --budget SIZE                 of a packet: 200kB, 1.5MB, 0.5bits (a weight), 50x (below float32)
  --network NAME --seconds S    what that line of conf/network carries up in so many seconds
  --before MODEL --after MODEL  try codecs on the step from one model to another: files, or folders
                                of runs
  --update FILE                 ... or on what --save wrote
  --save FILE                   keep the update that was tried
  --all                         print a command for every codec that fits

Examples:
  fedcomp-advise dataset=cifar10 model=resnet20 --budget 30kB
  fedcomp-advise --network iot --seconds 2
  fedcomp-advise dataset=digits partition=dirichlet --budget 0.5bits --all
"""


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong instead of printing it."""

    def error(self, message: str) -> NoReturn:
        """Raise."""
        msg = f"{message}; see fedcomp-advise --help"
        raise ConfigError(msg)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with 0, 1 (failed), 2 (wrong arguments) or 130 (interrupted)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    leave(code_of("fedcomp-advise", lambda: _dispatch(given), (ConfigError, DataError)))


def _dispatch(arguments: list[str]) -> None:
    given = _parser().parse_intermixed_args(arguments)
    if given.help:
        print(_HELP.format(version=__version__), end="")
    elif given.version:
        print(f"fedcomp-advise {__version__}")
    else:
        _check(given)
        _advise(given)


def _parser() -> _Parser:
    parser = _Parser(prog="fedcomp-advise", add_help=False, allow_abbrev=False)
    parser.add_argument("words", nargs="*")
    for flag in ("--budget", "--network", "--before", "--after", "--update", "--save"):
        parser.add_argument(flag)
    parser.add_argument("--seconds", type=float)
    for flag in ("--all", "--help", "--version"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-h", action="store_true", dest="help")
    return parser


def _check(given: argparse.Namespace) -> None:
    """Refuse arguments that do not go together."""
    problems = [
        f"{text}: fedcomp-advise looks for that; leave it out"
        for text in given.words
        if key_of(text) in _TAKEN or key_of(text).startswith("uplink.")
    ]
    problems += [
        f"{text}: is for a sweep of many runs; leave it out"
        for text in given.words
        if key_of(text).partition(".")[0] == "sweep"
    ]
    if given.save is not None and not given.save.endswith(".safetensors"):
        problems.append(f"--save {given.save}: name a file that ends in .safetensors")
    if (given.budget is None) == (given.network is None):
        problems.append("give either --budget SIZE, or --network NAME with --seconds S")
    if (given.network is None) != (given.seconds is None):
        problems.append("--network NAME and --seconds S go together")
    if given.network is not None and any(key_of(text) == "network" for text in given.words):
        problems.append("network=…: --network says that already; leave one out")
    if (given.before is None) != (given.after is None):
        problems.append("--before MODEL and --after MODEL go together")
    if given.update is not None and given.before is not None:
        problems.append("give either --update FILE, or --before MODEL with --after MODEL")
    if problems:
        raise ConfigError(problems)


def _advise(given: argparse.Namespace) -> None:
    """Compose, record, try all codecs, print."""
    from fedcomp.advise.budget import Size, carried
    from fedcomp.config import compose_config
    from fedcomp.runtime import limited_threads
    from fedcomp.settings import parse
    from fedcomp.setup import Setup

    size = None if given.budget is None else Size.read(given.budget)
    words = list(given.words)
    if "method" not in map(key_of, words):
        words.insert(0, METHOD)
    if given.network is not None:
        words.append(f"network={given.network}")
    try:
        composed = compose_config(words)
        settings = parse(composed)
    except ConfigError as error:
        raise ConfigError([*error.problems, *_hints(given.words, error.problems)]) from error
    plain = compose_config([METHOD, f"codec@uplink={settings.uplink.name}"])["uplink"]
    if (given_uplink := composed["uplink"]) != plain:
        own = ", ".join(f"uplink.{k}={v}" for k, v in given_uplink.items() if plain.get(k) != v)
        msg = f"the words set {own}, and fedcomp-advise looks for that; leave out what does"
        raise ConfigError([msg, *_hints(given.words, ["uplink."])])
    if settings.recipe.name != "local":
        msg = (
            f"recipe={settings.recipe.name}: has packets of its own, and fedcomp-advise tries"
            f" codecs on plain local training; choose {METHOD}"
        )
        raise ConfigError(msg)
    setup = Setup(settings)
    setup.check()
    network, elements = settings.network, setup.manifest.elements
    budget = carried(network, given.seconds) if size is None else size.bytes(elements)
    with limited_threads(settings.engine.cpus_per_client):
        _try_all(given, words, setup, budget)


def _hints(words: list[str], problems: list[str]) -> list[str]:
    """Return what to do where an experiment has settings for a method of its own."""
    owned = ("uplink.", "downlink.", "recipe.", "server_step.")
    return [
        f"{text}: is about a method of its own; take one without, or its data and model alone"
        for text in words
        if key_of(text) == "experiment" and any(line.startswith(owned) for line in problems)
    ]


def _try_all(given: argparse.Namespace, words: list[str], setup: Setup, budget: int) -> None:
    from fedcomp.advise import report
    from fedcomp.advise.candidates import candidates
    from fedcomp.advise.measure import Bench
    from fedcomp.advise.record import save_update
    from fedcomp.advise.search import best_setting, in_order
    from fedcomp.report.units import megabytes

    console = wide_console()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    settings, elements = setup.settings, setup.manifest.elements
    update = _update(given, setup)
    if given.save is not None:
        save_update(update, given.save)
    say(
        f"{settings.model.name} on {settings.dataset.name}, {elements:,} values: {update.source};"
        f" a packet may have {megabytes(budget)}"
    )
    bench = Bench(setup.session("advise"), update)
    answers, left_out = [], []
    with console.status("") as status:
        for name, make in candidates(words, settings):
            status.update(f"trying {name}")
            try:
                answers.append(best_setting(name, make, bench, budget))
            except FedcompError as error:
                left_out.append(f"{name} is left out: {'; '.join(str(error).splitlines())}")
    answers = in_order(answers)
    downlink = bench.tried(settings.downlink)[0]
    console.print(report.table(answers, settings, elements))
    for line in (*left_out, *report.notes(answers, settings, budget, elements, downlink)):
        say(line)
    fitting = [answer for answer in answers if answer.fits]
    for answer in fitting if given.all else fitting[: report.SHOWN]:
        say(f"  {report.command(answer, words)}")


def _update(given: argparse.Namespace, setup: Setup) -> Update:
    from fedcomp.advise import record

    if given.update is not None:
        return record.read_update(setup, given.update)
    if given.before is not None:
        return record.read_pair(setup, given.before, given.after)
    return record.recorded(setup)
