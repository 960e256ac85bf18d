"""Running what is missing of a comparison; beside each run's folder lies a note of what it is."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

from filelock import FileLock, Timeout

from fedcomp import resume
from fedcomp.config import compose_config, path_word, run_folder
from fedcomp.errors import DataError, FedcompError
from fedcomp.report.summary import read_summary
from fedcomp.runtime import cpu_count
from fedcomp.storage import save_json
from scripts.machine import measured_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from scripts.reproductions.plan import Job

Note: TypeAlias = "Mapping[str, Any]"
"""A run's words, the date, machine and versions of its last start, and the net that it is of."""

MAY_DIFFER = ("data_dir", "dataset.verify", "dataset.download")
"""Settings that say where data come from, and nothing of what is done."""

_composing = Lock()  # Hydra composes for one at a time


def run(job: Job, given: Sequence[str], place: Path, at_a_time: int = 1) -> bool:
    """Run one job in a process of its own unless it is there; tell whether it succeeded."""
    try:
        with FileLock(place / f".{job.folder}.lock", timeout=0):
            return _run(job, given, place, at_a_time)
    except Timeout:
        print(f"{job.folder}: another process is at it, in {place / job.folder}", file=sys.stderr)
        return False


def _run(job: Job, given: Sequence[str], place: Path, at_a_time: int) -> bool:
    folder = place / job.folder
    log = folder.with_suffix(".log")
    begun = ["fedcomp", *given, run_folder(folder)]
    if job.after is not None:
        begun = ["fedcomp.quantise", *given, path_word("checkpoint", _net(job, place))]
        begun.append(path_word("out", folder))
    note = _note(folder)
    if folder.exists() and note:
        if other := _other_settings(job, given, place, note):
            print(
                f"{job.folder}: {folder} holds a run with other settings ({other}); give another"
                " --folder, or move it away",
                file=sys.stderr,
            )
            return False
        if _is_finished(folder):
            print(f"{job.folder}: there already, in {folder}", flush=True)
            return True
        if resume.can_go_on(folder):
            begun = ["fedcomp", f"resume={shlex.quote(str(folder))}"]
        else:
            shutil.rmtree(folder)
    print(f"{job.folder}: {begun[0].replace('.', '-')} {shlex.join(given)}", flush=True)
    note = {"words": _lasting(given), **measured_on(), "net": _hash(job, place)}
    save_json(note, folder.with_suffix(".json"))
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(cpu_count() // at_a_time, 1))}
    with log.open("a", encoding="utf-8") as out:
        done = subprocess.run(
            [sys.executable, "-P", "-m", *begun],
            stdout=out,
            stderr=out,
            env=environment,
            check=False,
        )
    if done.returncode:
        print(log.read_text(encoding="utf-8")[-2000:], file=sys.stderr)
    return done.returncode == 0


def planned(jobs: Mapping[Job, Sequence[str]], place: Path) -> list[Job]:
    """Return the jobs of which no folder, nor that of the net they are of, holds another run."""
    fitting = [job for job, given in jobs.items() if _fits(job, given, place)]
    folders = {job.folder for job in fitting}
    return [job for job in fitting if job.after is None or job.after in folders]


def _fits(job: Job, given: Sequence[str], place: Path) -> bool:
    folder = place / job.folder
    note = _note(folder)
    return not folder.exists() or bool(note and not _other_settings(job, given, place, note))


def measured(jobs: Mapping[Job, Sequence[str]], place: Path) -> dict[str, Any]:
    """Return on what all runs were measured, and the first and the last date.

    `DataError` names the runs that are not there as they were planned, or says that they were
    measured on several machines or with several versions.
    """
    problems, notes = [], {}
    for job, given in jobs.items():
        folder = place / job.folder
        note = _note(folder)
        if not note or not _is_finished(folder):
            problems.append(f"{job.folder} has not finished")
        elif other := _other_settings(job, given, place, note):
            problems.append(f"{job.folder} was run with other settings ({other})")
        else:
            notes[job.folder] = note
    if problems:
        raise DataError("; ".join(problems))
    for key in ("machine", "versions"):
        found = {json.dumps(note[key], sort_keys=True): name for name, note in notes.items()}
        if len(found) > 1:
            several = "; ".join(f"{name}: {text}" for text, name in found.items())
            msg = f"runs differ in {key}: {several}"
            raise DataError(msg)
    first = next(iter(notes.values()))
    dates = sorted({note["date"] for note in notes.values()})
    date = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return {"date": date, "machine": first["machine"], "versions": first["versions"]}


def _note(folder: Path) -> Note:
    try:
        found: Note = json.loads(folder.with_suffix(".json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _lasting(given: Iterable[str]) -> str:
    return shlex.join(word for word in given if word.partition("=")[0] not in MAY_DIFFER)


def _other_settings(job: Job, given: Sequence[str], place: Path, note: Note) -> str:
    """Return in what a run differs from the one that is planned; nothing if it does not."""
    if note.get("words") != _lasting(given):
        return str(note.get("words"))
    if note.get("net") != _hash(job, place):
        return "it is of another net"
    folder = place / job.folder
    if job.after is None and resume.can_go_on(folder):
        try:
            start = resume.Start.read(folder)
            with _composing:
                config = compose_config(list(given))
            allowed = [*config["resume_allow"], *MAY_DIFFER]
            start.check({**config, "resume_allow": allowed})
        except FedcompError as error:
            return str(error)
    return ""


def _net(job: Job, place: Path) -> Path:
    return place / (job.after or "") / "model.safetensors"


def _hash(job: Job, place: Path) -> str | None:
    if job.after is None or not _net(job, place).is_file():
        return None
    return hashlib.sha256(_net(job, place).read_bytes()).hexdigest()


def _is_finished(folder: Path) -> bool:
    if (folder / "quantise.json").is_file():
        return True
    try:
        return bool(read_summary(folder)["status"] == "finished")
    except FedcompError:
        return False
