"""Which runs a sweep has, and where each of them goes.

A job is named by a hash of its overrides, so that the same command, or a wider one, finds what
there is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.building import build
from fedcomp.commands import key_of
from fedcomp.config import MOST_JOBS, compose_config, compose_group, split_sweep
from fedcomp.errors import ConfigError
from fedcomp.runtime import cpu_count
from fedcomp.settings import ENGINES
from fedcomp.sweep.index import lock_of, status_of
from fedcomp.sweep.settings import SweepSettings

if TYPE_CHECKING:
    from filelock import FileLock

FOLDER = "outputs/sweeps"
"""Where the folders of jobs lie unless `hydra.run.dir` says so."""

_GROUP = "sweep"
_NAME_LENGTH = 60
_MANY = 20
"""From here on it takes so long to check jobs that it had better be said."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes
    ----------
    words
        Its overrides, as they are given.
    swept
        Those of them that are not the same in all jobs.
    """

    words: tuple[str, ...]
    swept: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What tells the job from the others."""
        return " ".join(self.swept or self.words) or "defaults"

    @property
    def key(self) -> str:
        """A hash of the overrides in any order; only those of one key keep theirs: the last counts.

        Examples
        --------
        >>> Job(("rounds=2", "seed=1")).key == Job(("seed=1", "rounds=2")).key
        True
        >>> Job(("seed=2", "seed=1")).key == Job(("seed=1", "seed=2")).key
        False
        """
        ordered = sorted(self.words, key=key_of)
        return sha256("\0".join(ordered).encode()).hexdigest()[:12]

    def lock(self, parent: Path) -> FileLock:
        """Return what whoever runs the job holds; it goes with the process, however that ends."""
        return lock_of(self.key, parent)

    @property
    def values(self) -> dict[str, str]:
        """What its overrides say, by key.

        Examples
        --------
        >>> Job(("rounds=2", "+strategy.x=1", "~strategy.y")).values
        {'rounds': '2', 'strategy.x': '1', '~strategy.y': 'removed'}
        """
        pairs = (word.lstrip("+").partition("=") for word in self.words)
        return {key: value if equals else "removed" for key, equals, value in pairs}

    def folder(self, parent: Path) -> Path:
        """Return the job's folder; one that is there keeps the name that it was made with.

        No sign in the name has a meaning in overrides, so that these may hold it.

        Examples
        --------
        >>> str(Job((), ("codec@uplink=qsgd", "uplink.qp=-32")).folder(Path("nowhere")))
        'nowhere/uplink-qsgd_uplink.qp--32-e3b0c44298fc'
        """
        there = sorted(path for path in parent.glob(f"*-{self.key}") if path.is_dir())
        if there:
            return there[0]
        parts = []
        for word in self.swept or self.words:
            text = f"{key_of(word).rpartition('@')[2]}={word.partition('=')[2]}"
            parts.append(re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).strip("-."))
        readable = "_".join(parts)[:_NAME_LENGTH] or "defaults"
        return parent / f"{readable}-{self.key}"


@dataclass(frozen=True)
class Plan:
    """What a sweep does.

    Attributes
    ----------
    folder
        Where its jobs have theirs.
    parallel
        How many run at a time.
    """

    folder: Path
    jobs: list[Job]
    parallel: int = 1


def is_own(word: str) -> bool:
    """Tell whether a word is for a sweep itself and not for its runs."""
    return key_of(word).partition(".")[0] == _GROUP


def plan(overrides: list[str]) -> Plan:
    """Return all jobs of a sweep; `ConfigError` names all that is wrong in any."""
    problems: list[str] = []
    settings = _settings(overrides, problems)
    given = [word for word in overrides if not is_own(word)]
    keys = {key_of(word) for word in given}
    listed = [w for w in settings.over if key_of(w) not in keys and not is_own(w)]
    found: list[str] = []
    choices, folder = split_sweep([*listed, *given], found)
    jobs, place = _jobs(choices, found), Path(folder or FOLDER)
    needed = _check([j for j in jobs if status_of(j.folder(place)) != "finished"], found)
    names = {key_of(word) for word in listed}
    problems += [
        _source(overrides) + text if key_of(text.split(": ")[0]) in names else text
        for text in found
    ]
    parallel = min(settings.parallel, max(len(jobs), 1))
    if parallel > 1 and parallel * needed > (cores := cpu_count()):
        each = f" of engine.cpus_per_client={needed} threads" if needed > 1 else ""
        problems.append(
            f"sweep.parallel={settings.parallel}: {parallel} runs{each} need {parallel * needed}"
            f" cores, and this machine has {cores}; lower it"
        )
    if problems:
        raise ConfigError(problems)
    return Plan(place, jobs, parallel)


def _settings(overrides: list[str], problems: list[str]) -> SweepSettings:
    """Return the settings of the sweep itself, which an experiment may choose as well."""
    words = []
    for word in overrides:
        if is_own(word) or key_of(word) in ("experiment", "hydra.searchpath"):
            several = [len(choice) > 1 for choice in split_sweep([word], [])[0]]
            if not any(several):
                words.append(word)
            elif is_own(word):
                problems.append(f"{word}: names several values; a sweep takes one")
    found: list[str] = []
    values = compose_group(_GROUP, words, found)
    problems += [text for text in found if is_own(text.split(":")[0])]  # plan() finds the others
    try:
        settings = build(SweepSettings, values, _GROUP)
    except ConfigError as error:
        problems += error.problems
        return SweepSettings()
    own = [w for w in settings.over if is_own(w) or key_of(w) in ("resume", "resume_allow")]
    problems += [f"{_source(overrides)}{word}: is not for runs; leave it out" for word in own]
    return settings


def _source(overrides: list[str]) -> str:
    """Return where the words come from that the command line does not hold."""
    own = {key_of(word): word.partition("=")[2] for word in overrides if is_own(word)}
    if f"{_GROUP}.over" in own or _GROUP not in own:
        return f"{_GROUP}.over: "
    return f"conf/{_GROUP}/{own[_GROUP]}.yaml: "


def _jobs(choices: list[list[str]], problems: list[str]) -> list[Job]:
    """Return a job for each combination, in order, each once."""
    fixed = {words[0] for words in choices if len(set(words)) == 1}
    if prod(map(len, choices)) > MOST_JOBS:
        problems.append(f"a sweep of more than {MOST_JOBS} runs; name fewer values")
        raise ConfigError(problems)
    jobs: dict[str, Job] = {}
    for words in product(*choices):
        job = Job(words, tuple(word for word in words if word not in fixed))
        jobs.setdefault(job.key, job)
    return list(jobs.values())


def _check(jobs: list[Job], problems: list[str]) -> int:
    """Compose jobs; return the most cores that one of them takes."""
    if len(jobs) > _MANY:
        print(f"checking {len(jobs)} jobs …", flush=True)
    found: dict[str, list[Job]] = {}
    needed = 0
    for job in jobs:
        try:
            engine = compose_config(list(job.words))["engine"]
            needed = max(needed, _threads(engine))
        except ConfigError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(job)
    problems += [problem + _where(problem, of, len(jobs)) for problem, of in found.items()]
    return needed


def _threads(engine: dict[str, Any]) -> int:
    """Return how many cores a run takes here; one elsewhere is merely followed."""
    return 0 if ENGINES.get(engine["name"]).remote else int(engine["cpus_per_client"])


def _where(problem: str, of: list[Job], jobs: int) -> str:
    """Return in which jobs a problem is, where it is not in all and does not say so itself."""
    common = [word for word in of[0].swept if all(word in job.swept for job in of)]
    if len(of) == jobs or any(problem.startswith(f"{word}: ") for word in common):
        return ""
    return f" (with {' '.join(common) or f'{of[0].label}, and in other jobs'})"
