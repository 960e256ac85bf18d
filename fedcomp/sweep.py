"""Sweeps, `fedcomp -m`: one run after the other, each in a process and a folder of its own.

A job is named by a hash of its overrides.  The same command goes on where it was interrupted,
within a run too, and a wider sweep does only what is new.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from rich.console import Console

from fedcomp.config import MOST_JOBS, compose_config, run_folder, split_sweep
from fedcomp.errors import ConfigError, FedcompError
from fedcomp.report.summary import comparison, read_summary
from fedcomp.resume import can_go_on

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

FOLDER = "outputs/sweeps"
"""Where the folders of jobs lie unless `hydra.run.dir` says so."""

_STOP_SECONDS = 10
_NAME_LENGTH = 60


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
        ordered = sorted(self.words, key=lambda word: word.partition("=")[0].lstrip("+~"))
        return sha256("\0".join(ordered).encode()).hexdigest()[:12]

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
            name, _, value = word.partition("=")
            text = f"{name.rpartition('@')[2].lstrip('+~')}={value}"
            parts.append(re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII).strip("-."))
        readable = "_".join(parts)[:_NAME_LENGTH] or "defaults"
        return parent / f"{readable}-{self.key}"


def plan(overrides: list[str]) -> tuple[Path, list[Job]]:
    """Return the folder of a sweep and its jobs; `ConfigError` names all that is wrong in any."""
    problems: list[str] = []
    choices, folder = split_sweep(overrides, problems)
    fixed = {words[0] for words in choices if len(set(words)) == 1}
    count = prod(map(len, choices))
    if count > MOST_JOBS:
        msg = f"a sweep of more than {MOST_JOBS} runs; name fewer values"
        raise ConfigError([*problems, msg])
    jobs: dict[str, Job] = {}
    for words in product(*choices):
        job = Job(words, tuple(word for word in words if word not in fixed))
        jobs.setdefault(job.key, job)
    found: dict[str, list[Job]] = {}
    for job in jobs.values():
        try:
            compose_config(list(job.words))
        except ConfigError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(job)
    problems += [problem + _where(problem, of, len(jobs)) for problem, of in found.items()]
    if problems:
        raise ConfigError(problems)
    return Path(folder or FOLDER), list(jobs.values())


def _where(problem: str, of: list[Job], jobs: int) -> str:
    """Return in which jobs a problem is, where it is not in all and does not say so itself."""
    common = [word for word in of[0].swept if all(word in job.swept for job in of)]
    if len(of) == jobs or any(problem.startswith(f"{word}: ") for word in common):
        return ""
    return f" (with {' '.join(common) or f'{of[0].label}, and in other jobs'})"


def sweep(overrides: list[str]) -> int:
    """Run all jobs that have not finished, show all that are there, and return how many failed."""
    parent, jobs = plan(overrides)
    parent.mkdir(parents=True, exist_ok=True)
    failed: dict[Job, str] = {}
    try:
        for number, job in enumerate(jobs, 1):
            try:
                reason = _run(job, parent, f"job {number} of {len(jobs)}: {job.label}")
            except OSError as error:
                reason = str(error)
            if reason:
                failed[job] = reason
    except KeyboardInterrupt:
        _show(parent, jobs)
        finished = sum(_status(job.folder(parent)) == "finished" for job in jobs)
        _say(f"interrupted: {finished} of {len(jobs)} jobs have finished, the same command goes on")
        raise
    _show(parent, jobs)
    if failed:
        print(f"fedcomp: {len(failed)} of {len(jobs)} jobs failed", file=sys.stderr)
    for job, reason in failed.items():
        print(f"fedcomp: {job.label}: {reason}", file=sys.stderr)
    return len(failed)


def _run(job: Job, parent: Path, title: str) -> str:
    """Run a job unless it has finished; return why it failed, or nothing."""
    with _alone(FileLock(parent / f".{job.key}.lock"), title):
        folder = job.folder(parent)
        if _status(folder) == "finished":
            _say(f"{title}: finished before, in {folder}")
            return ""
        _say(title)
        words = (*job.words, run_folder(folder))
        if folder.exists():
            if can_go_on(folder):
                _say(f"{folder} holds a run that did not finish; it goes on")
                words = (f"resume={folder}",)
            else:
                _say(f"{folder} holds a run that did not finish; it is removed and begins anew")
                shutil.rmtree(folder)
        code = _wait(subprocess.Popen([*_command(), *words]))
    if code == 0:
        return ""
    ended = f"exit code {code}" if code > 0 else signal.Signals(-code).name
    log = folder / "run.log"
    return f"{ended}, see the messages above" + (f" and {log}" if log.exists() else "")


def _alone(lock: FileLock, title: str) -> AbstractContextManager[object]:
    """Keep other sweeps from a job; one that runs it now is waited for."""
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        _say(f"{title}: another sweep runs it, waiting for that")
        return lock.acquire()


def _command() -> list[str]:
    """Return what starts this very package; the current folder is no place for others."""
    here = Path(__file__).parents[1] == Path.cwd()
    return [sys.executable, *([] if here else ["-P"]), "-m", "fedcomp"]


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for a run; Ctrl-C reaches it as well, and it gets the time to end.

    One that goes on got no interrupt, which happens where only this process was sent one.
    """
    try:
        return child.wait()
    except KeyboardInterrupt:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not come between
        for further in (signal.SIGINT, signal.SIGKILL):
            try:
                child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.send_signal(further)
        signal.signal(signal.SIGINT, before)
        raise


def _status(folder: Path) -> str | None:
    """Return the status of the run in a folder, None where there is no summary of one."""
    try:
        return str(read_summary(folder)["status"])
    except (FedcompError, OSError):
        return None


def _show(parent: Path, jobs: list[Job]) -> None:
    """Print the table of all jobs that have results, finished or not."""
    folders = [job.folder(parent) for job in jobs]
    there = [folder for folder in folders if _status(folder)]
    if there:
        _say("")
        Console(width=None if sys.stdout.isatty() else 200).print(comparison(there))


def _say(text: str) -> None:
    """Print a line before what a child prints."""
    print(text, flush=True)
