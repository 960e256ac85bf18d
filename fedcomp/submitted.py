"""Jobs as deployed apps get them: whole, or as words of the command line."""

from __future__ import annotations

import hashlib
import json
import shlex
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedcomp import __version__
from fedcomp.commands import key_of
from fedcomp.errors import ConfigError, EngineError
from fedcomp.settings import ENGINES, Job
from fedcomp.wire import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

ENGINE = "superlink"
"""The engine of everything that runs on a SuperLink."""


def is_deployed(run_config: Mapping[str, object]) -> bool:
    """Tell whether an app runs in a deployment: its engine says so, or words have to be composed.

    Examples
    --------
    >>> is_deployed({"fedcomp": "", "overrides": "rounds=3"}), is_deployed({})
    (True, False)
    """
    text = str(run_config.get(keys.RUN_CONFIG, ""))
    if not text:
        return keys.OVERRIDES in run_config
    return _is_remote(json.loads(text))


def read(run_config: Mapping[str, object], run_number: int) -> Job:
    """Return the job of a run config; from words both sides of a run make the same one.

    Parameters
    ----------
    run_number
        Flower's id of the run.
    """
    text = str(run_config.get(keys.RUN_CONFIG, ""))
    if not text:
        return compose(str(run_config.get(keys.OVERRIDES, "")), run_number)
    found = json.loads(text)
    if _is_remote(found) and found.get("version") != __version__:
        wanted = f"fedcomp {found.get('version')}"
        msg = (
            f"fedcomp {__version__} is installed here and the job needs {wanted}: all machines of a"
            f" deployment run the same version; install {wanted} here from its checkout"
        )
        raise EngineError(msg)
    return Job.from_json(text)


def compose(words: str, run_number: int) -> Job:
    """Return the job that words of the command line describe, on a SuperLink."""
    try:
        overrides = shlex.split(words)
    except ValueError as error:
        msg = f"overrides={words!r}: cannot be split into words: {error}"
        raise ConfigError(msg) from error
    problems = [f"{word}: {why}" for word in overrides if (why := _taken(word))]
    if problems:
        raise ConfigError(problems)
    config: dict[str, Any] = import_module("fedcomp.config").compose_config(
        [*overrides, f"engine={ENGINE}"]
    )
    name = hashlib.sha256(f"flwr run {run_number}".encode()).hexdigest()[:16]
    method, dataset = config["method"]["name"], config["dataset"]["name"]
    folder = f"outputs/{datetime.now():%Y-%m-%d/%H-%M-%S.%f}-{method}-{dataset}"
    return Job(config, name, folder)


def _taken(word: str) -> str:
    """Return why a word is none for `flwr run`, nothing if it is one."""
    key = key_of(word)
    if key in ("resume", "resume_allow"):
        return "runs of flwr run cannot be resumed; those of fedcomp engine=superlink can"
    if key.partition(".")[0] == "sweep":
        return "flwr run runs one job; fedcomp -m runs a sweep"
    if key == "engine" or key.startswith(("hydra.", "hydra/", "-")):
        return (
            "overrides of flwr run are keys and groups; the engine and the run folder are not"
            " theirs to choose"
        )
    return ""


def _is_remote(job: Mapping[str, Any]) -> bool:
    return ENGINES.get(job["config"]["engine"]["name"]).remote
