"""The command `fedcomp`."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp import __version__
from fedcomp.commands import EXIT_FAILED, EXIT_INTERRUPTED, code_of, leave
from fedcomp.errors import ConfigError, DataError, FedcompError, RunInterrupted
from fedcomp.signals import interrupting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from fedcomp.resume import Start
    from fedcomp.setup import Setup

log = logging.getLogger(__name__)

_NAMED_SAMPLES = 5

_SWEEP_FLAGS = ("-m", "--multirun")

_HELP = """\
fedcomp {version} – federated learning with every byte compressed, both ways, and counted

  fedcomp [KEY=VALUE …]         run; results go to outputs/<day>/<time>-<method>-<dataset>/
  fedcomp -m KEY=V1,V2 … [KEY=VALUE …]
                                a sweep: a run for every combination, each in a folder below
                                outputs/sweeps/; what has finished is not run again;
                                sweep.parallel=N of them at a time, sweep=methods for all methods
  fedcomp resume=FOLDER         go on with a run where it was cut off, however that happened
  fedcomp --cfg [KEY=VALUE …]   print the composed configuration and stop
  fedcomp-report FOLDER …       compare finished and unfinished runs

Options of each group (fedcomp GROUP=OPTION):
{groups}

Examples:
  fedcomp engine=inline rounds=3
  fedcomp clients=20 partition=dirichlet partition.alpha=0.1 strategy=fedadam
  fedcomp codec@uplink=cast uplink.dtype=bf16 model=mlp train.lr=0.1
  fedcomp -m codec@uplink=qsgd,sign 'seed=range(1,4)' engine=inline
  fedcomp -m sweep=methods_seeds dataset=digits engine=inline sweep.parallel=2
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with 0, 1 (failed), 2 (wrong arguments) or 130 (interrupted)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    leave(code_of("fedcomp", lambda: _dispatch(given)))


def _dispatch(arguments: list[str]) -> int:
    from rich.console import Console

    from fedcomp import resume
    from fedcomp.config import as_yaml, compose_config, group_choices, run_hydra, split_sweep
    from fedcomp.report.summary import closing, is_finished
    from fedcomp.sweep.plan import is_own

    flags = [word for word in arguments if word.startswith("-")]
    overrides = [word for word in arguments if not word.startswith("-")]
    if {"--help", "-h"} & set(flags):
        width = max(map(len, group_choices())) + 2
        groups = [f"  {name:{width}}{' '.join(o)}" for name, o in group_choices().items()]
        print(_HELP.format(version=__version__, groups="\n".join(groups)))
        return 0
    if "--version" in flags:
        print(f"fedcomp {__version__}")
        return 0
    unknown = [flag for flag in flags if flag not in ("--cfg", *_SWEEP_FLAGS)]
    if unknown:
        raise ConfigError(f"{flag}: there is no such flag; see fedcomp --help" for flag in unknown)
    several = [flag for flag in flags if flag in _SWEEP_FLAGS]
    if several and "--cfg" in flags:
        raise ConfigError(f"--cfg {several[0]}: a sweep has many configurations; leave one out")
    _check_packages()
    given, words = resume.split(overrides)
    if several:
        from fedcomp.sweep.run import sweep

        if given:
            msg = f"resume={given}: a sweep goes on by itself when it is given again; leave it out"
            raise ConfigError(msg)
        return EXIT_FAILED if sweep(words) else 0
    if own := [word for word in words if is_own(word) and "--cfg" not in flags]:
        raise ConfigError(f"{word}: is for a sweep of many runs; add -m" for word in own)
    start, folder = resume.Start(secrets.token_hex(8)), Path(given) if given else None
    lasting = words
    if folder is not None:
        start = resume.Start.read(folder)
        words, lasting = start.merged(words), start.lasting(words)
    config, named = compose_config(words), split_sweep(words, [])[1]
    if folder is not None:
        start.check(config)
        if is_finished(folder, config["rounds"]):
            print(f"{folder}: the run has finished")
            Console().print(closing(folder))
            return 0
        if start.version != __version__:
            versions = f"fedcomp {start.version} and goes on with {__version__}"
            print(f"fedcomp: the run began with {versions}", file=sys.stderr)
    else:
        _check_folder(named)
    if "--cfg" in flags:
        print(as_yaml(config), end="")
        return 0
    _set_environment()
    from fedcomp.engines.logs import logging_to, on_terminal

    # What is decoded: the first time that takes long.
    with logging_to(None, verbose=False), on_terminal("fedcomp.data.store", logging.INFO):
        setup = prepare(config)
    outcome: list[int] = []

    def task(config: dict[str, Any], place: str) -> None:
        server_folder = start.server_folder or _server_folder(named, Path(place))
        began = replace(start, overrides=lasting, config=config, server_folder=server_folder)
        outcome.append(run(began, Path(place), setup, resumed=folder is not None))

    run_hydra(words, task, folder)
    return outcome[0] if outcome else EXIT_FAILED


def _server_folder(named: str | None, place: Path) -> str:
    """Return how a server elsewhere is told the run folder: relative unless `named` otherwise."""
    below = place.is_relative_to(Path.cwd()) and not Path(named or "").is_absolute()
    return str(place.relative_to(Path.cwd()) if below else place)


def _check_folder(folder: str | None) -> None:
    """Refuse a folder that a run has left."""
    from fedcomp.resume import can_go_on

    if folder and (can_go_on(Path(folder)) or (Path(folder) / "summary.json").exists()):
        msg = (
            f"hydra.run.dir={folder}: holds a run already; name another folder, or go on with it by"
            f" fedcomp resume={folder}"
        )
        raise ConfigError(msg)


def prepare(config: dict[str, Any]) -> Setup:
    """Build everything that can be wrong in a configuration, before anything is started."""
    from importlib import import_module

    from fedcomp.settings import parse
    from fedcomp.setup import Setup
    from fedcomp.wire import private

    private.check()
    settings = parse(config)
    settings.engine.check()
    setup = Setup(settings)
    try:
        strategy = import_module("strategies.build").build_strategy(settings)
        if settings.checkpoint_every:
            import_module("strategies.state").StrategyState(strategy)
        if not settings.engine.remote:  # else data and model are the server's and the nodes' matter
            setup.check()
    except DataError as error:
        raise ConfigError(str(error)) from error
    return setup


def run(start: Start, place: Path, setup: Setup, *, resumed: bool) -> int:
    """Run a job in a folder, alone, from where it is; return the exit code."""
    from fedcomp.resume import alone, can_go_on

    shown = place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place
    with alone(place):
        if not resumed:
            start.write(place)
        code = _run(start, place, shown, setup)
    if code and can_go_on(place):
        print(f"fedcomp resume={shown} goes on with it")
    return code


def _run(start: Start, place: Path, shown: Path, setup: Setup) -> int:
    from rich.console import Console

    from fedcomp.engines.logs import logging_to, on_terminal
    from fedcomp.report.progress import Progress
    from fedcomp.report.summary import closing
    from fedcomp.resume import Begun
    from fedcomp.runtime import Hooks
    from fedcomp.settings import Job

    console, errors = Console(), Console(stderr=True)
    code = 0
    skipped = [] if setup.settings.engine.remote else _show_data(setup, place, console)
    with logging_to(place / "run.log", verbose=setup.settings.verbose):
        for line in skipped:
            log.warning("left out: %s", line)
        try:
            # The handler comes second: it takes the stream that does not disturb a live line.
            trackers = on_terminal("fedcomp.report.trackers", logging.WARNING)
            with Progress(setup.settings, console) as progress, trackers:
                engine = setup.settings.engine
                hooks = Hooks([progress, Begun(start, place)])
                job = Job(start.config, start.run_id, str(place), start.server_folder, start.began)
                with interrupting(hooks, remote=engine.remote):
                    job.settings.engine.run(job, setup, hooks)
        except (KeyboardInterrupt, RunInterrupted):
            console.print("interrupted")
            code = EXIT_INTERRUPTED
        except DataError:
            raise  # as it is, the run cannot go on
        except FedcompError as error:
            errors.print(
                f"fedcomp: {error}", style="red", markup=False, highlight=False, soft_wrap=True
            )
            code = EXIT_FAILED
    if (place / "summary.json").is_file():
        console.print(closing(shown))
    return code


def _show_data(setup: Setup, place: Path, console: Console) -> Sequence[str]:
    """Show who holds what; return the samples that are left out."""
    from fedcomp.report import partition

    parts, names = (setup.dataset.train, setup.partition), setup.dataset.names
    console.print(partition.table(*parts, names))
    if skipped := setup.dataset.skipped:
        first = "\n".join(f"  {line}" for line in skipped[:_NAMED_SAMPLES])
        text = f"{len(skipped)} samples are left out (dataset.skip_corrupt), see run.log:\n{first}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    partition.draw(*parts, place / "partition.png", names)
    return skipped


def _check_packages() -> None:
    """Refuse to run with somebody else's package named `strategies` or `clients`."""
    from importlib.util import find_spec

    root = Path(__file__).parents[1]
    for name in ("strategies", "clients"):
        spec = find_spec(name)
        origin = Path(spec.origin).parents[1] if spec and spec.origin else None
        if origin != root:
            msg = (
                f"the package {name} is taken from {origin}, expected {root}: another package of"
                " that name shadows it; run from another folder or rename that one"
            )
            raise ConfigError(msg)


def _set_environment() -> None:
    """Set what Flower and Ray read from the environment, before they are imported."""
    for name in ("FLWR_TELEMETRY_ENABLED", "RAY_USAGE_STATS_ENABLED"):
        os.environ.setdefault(name, "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    os.environ.setdefault("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "1")
