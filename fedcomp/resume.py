"""Going on with a run in its folder: the same settings, the same name, and nobody else at it."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from fedcomp import __version__
from fedcomp.commands import key_of
from fedcomp.dotted import is_within, leaves
from fedcomp.errors import ConfigError, DataError
from fedcomp.report.observer import Observer
from fedcomp.storage import save_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fedcomp.report.observer import RoundResult, RunStart

_KEY = "resume="
_ALWAYS = ("resume", "resume_allow", "hydra.run.dir", "sweep", "tracker")
"""What changes nothing of a run's results."""


@dataclass(frozen=True)
class Start:
    """How a run began: `checkpoint/job.json` in its folder.

    Attributes
    ----------
    overrides
        The words of the command line.
    config
        The composed configuration.
    server_folder
        How a server elsewhere is told the folder, wherever the run is resumed from.
    began
        Whether there has been a checkpoint.
    version
        Of this package when it began: another one may compute something else.
    """

    run_id: str
    overrides: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    server_folder: str = ""
    began: bool = False
    version: str = __version__

    def write(self, folder: Path) -> None:
        """Write the file."""
        path = _path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_json(vars(self), path)

    @classmethod
    def read(cls, folder: Path) -> Start:
        """Read what `write` wrote; `DataError` says why a run cannot go on."""
        path = _path(folder)
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
            _ = found.config["checkpoint_every"], found.merged([])
            return found
        except FileNotFoundError:
            why = "there is no such folder" if not folder.is_dir() else f"{path} is missing"
            msg = f"resume={folder}: {why}; give the folder of a run that fedcomp has started"
            raise DataError(msg) from None
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            msg = f"resume={folder}: {path} is damaged ({error}); start the run anew"
            raise DataError(msg) from error

    def merged(self, words: list[str]) -> list[str]:
        """Return the run's words and new ones, which take the place of those of the same key.

        Examples
        --------
        >>> start = Start("1", ["engine=flower", "engine.max_parallel=2", "rounds=2"])
        >>> start.merged(["engine=inline", "rounds=3"])
        ['engine=inline', 'rounds=3']
        """
        given = [_key(word) for word in words]
        groups = tuple(f"{key}." for key in given if "." not in key)
        kept = [w for w in self.overrides if _key(w) not in given]
        return [*(word for word in kept if not _key(word).startswith(groups)), *words]

    def lasting(self, words: list[str]) -> list[str]:
        """Return the same without what new words allow for this once.

        Examples
        --------
        >>> Start("1", ["rounds=2"]).lasting(["rounds=3", "resume_allow=[rounds]"])
        ['rounds=3']
        """
        return self.merged([word for word in words if _key(word) != "resume_allow"])

    def check(self, config: Mapping[str, Any]) -> None:
        """Refuse settings that are others than those that the run began with."""
        if not self.config["checkpoint_every"]:
            msg = "checkpoint_every=0: the run has left no checkpoint to go on from; start it anew"
            raise ConfigError(msg)
        allowed = tuple(config["resume_allow"])
        before, now = dict(leaves(self.config)), dict(leaves(config))
        rule = f"a resumed run keeps its settings but for resume_allow=[{','.join(allowed)}]"
        problems = []
        for key in sorted(before.keys() | now.keys()):
            if any(is_within(key, name) for name in (*allowed, *_ALWAYS)):
                continue
            if key not in now:
                problems.append(
                    f"{key}: the run began with {before[key]}, now it is missing; {rule}"
                )
            elif key not in before:
                problems.append(f"{key}={now[key]}: the run began without it; {rule}")
            elif before[key] != now[key]:
                problems.append(f"{key}={now[key]}: the run began with {before[key]}; {rule}")
        if problems:
            raise ConfigError(problems)


class Begun(Observer):
    """An observer that remembers how a run was begun, and that there is a checkpoint of it.

    What a run was resumed with counts from when it goes on: what it cannot go on with, does not.
    """

    def __init__(self, start: Start, folder: Path) -> None:
        self._start = start
        self._folder = folder

    def on_start(self, start: RunStart) -> None:  # noqa: ARG002
        """Write down what the run goes on with."""
        from fedcomp.config import store

        self._start.write(self._folder)
        store(self._folder, self._start.config, self._start.overrides)

    def on_round(self, result: RoundResult) -> None:  # noqa: ARG002
        """Write it down with the first round, before which there was one."""
        if self._start.config["checkpoint_every"] and not self._start.began:
            self._start = replace(self._start, began=True)
            self._start.write(self._folder)


def can_go_on(folder: Path) -> bool:
    """Tell whether a folder holds a run that `resume=` takes, or says what is wrong with."""
    if not _path(folder).exists():
        return False
    try:
        return bool(Start.read(folder).config.get("checkpoint_every", 1))
    except DataError:
        return True


def split(words: list[str]) -> tuple[str | None, list[str]]:
    """Return the folder that `resume=` names, and the other words."""
    folders = [word.removeprefix(_KEY).strip("'\"") for word in words if word.startswith(_KEY)]
    named = [folder for folder in folders if folder not in ("", "null")]
    if len(named) > 1:
        msg = f"resume= is given {len(named)} times: a command goes on with one run"
        raise ConfigError(msg)
    rest = [word for word in words if not word.startswith(_KEY)]
    if named and any(word.startswith("hydra.run.dir=") for word in rest):
        msg = f"hydra.run.dir cannot be given with resume={named[0]}: a run stays in its folder"
        raise ConfigError(msg)
    return (named[0] if named else None), rest


@contextmanager
def alone(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Keep other processes from a run; the lock goes with this one, however it ends.

    Parameters
    ----------
    name
        Of the lock: who submits a job and the server that runs it may share a folder.
    """
    path = _path(folder).with_name(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        msg = f"{folder}: another process is at this run; wait for it or stop it"
        raise DataError(msg) from None


def _path(folder: Path) -> Path:
    return folder / "checkpoint" / "job.json"


def _key(word: str) -> str:
    return key_of(word).rpartition("@")[2]
