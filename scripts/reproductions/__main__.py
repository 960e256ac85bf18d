"""The command `scripts/reproduce`: run what is missing of a comparison, then print and draw it."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fedcomp.config import run_folder
from fedcomp.errors import FedcompError
from fedcomp.report.plots.curves import comparison, draw, read_curve
from fedcomp.report.summary import read_summary
from fedcomp.runtime import cpu_count

if TYPE_CHECKING:
    from scripts.reproductions.plan import Plan

PLANS = ("codecs", "ecqx", "fedcompress", "fedcompress_speech", "feddip", "feddip_cifar10", "fsfl")
"""Modules of this package with a `PLAN`."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/reproduce", description=__doc__)
    parser.add_argument("name", choices=PLANS)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--only", action="append", metavar="RUN", help="this run; repeatable")
    parser.add_argument("--jobs", type=int, default=1, help="so many runs at a time")
    parser.add_argument("--folder", type=Path, default=Path("outputs/reproduce"))
    given = parser.parse_intermixed_args()  # words may follow options
    plan: Plan = import_module(f"scripts.reproductions.{given.name}").PLAN
    unknown = set(given.only or ()) - set(plan.runs)
    if unknown:
        parser.error(f"there is no run {min(unknown)!r}; choose of {', '.join(plan.runs)}")
    if given.jobs < 1:
        parser.error(f"--jobs {given.jobs}: at least 1")
    folder = given.folder.resolve() / given.name
    names = given.only or list(plan.runs)
    with ThreadPoolExecutor(given.jobs) as pool:
        jobs = {n: pool.submit(run, plan, n, folder / n, given) for n in names}
        try:
            failed = [name for name, job in jobs.items() if not job.result()]
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            sys.exit(130)
    show(plan, folder)
    if failed:
        sys.exit(f"scripts/reproduce: {', '.join(failed)} failed; see the messages above")


def run(plan: Plan, name: str, folder: Path, given: argparse.Namespace) -> bool:
    """Run one job in a process of its own unless it is there; tell whether it succeeded."""
    words = shlex.join([*plan.field, *plan.runs[name], *given.overrides])
    note, log = folder.with_suffix(".txt"), folder.with_suffix(".log")
    if folder.exists() and note.exists():
        if note.read_text(encoding="utf-8") != words:
            print(
                f"{name}: {folder} holds a run with other settings, see {note.name} beside it;"
                " give another --folder, or move it away",
                file=sys.stderr,
            )
            return False
        if _finished(folder):
            print(f"{name}: there already, in {folder}", flush=True)
            return True
        shutil.rmtree(folder)
    print(f"{name}: fedcomp {words}", flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(words, encoding="utf-8")
    command = [
        sys.executable,
        "-P",
        "-m",
        "fedcomp",
        *shlex.split(words),
        run_folder(folder),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(cpu_count() // given.jobs, 1))}
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(command, stdout=out, stderr=out, env=environment, check=False)
    if done.returncode:
        print(log.read_text(encoding="utf-8")[-2000:], file=sys.stderr)
    return done.returncode == 0


def _finished(folder: Path) -> bool:
    try:
        return bool(read_summary(folder)["status"] == "finished")
    except FedcompError:
        return False


def show(plan: Plan, folder: Path) -> None:
    """Print and draw what has been run so far."""
    there = [name for name in plan.runs if (folder / name / "summary.json").exists()]
    if plan.reference not in there:
        print(f"without the run {plan.reference} there is nothing to compare with")
        return
    try:
        curves = {name: read_curve(folder / name, name, plan.counted) for name in there}
        running = [n for n in there if read_summary(folder / n)["status"] != "finished"]
    except FedcompError as error:
        sys.exit(f"scripts/reproduce: {error}")
    reference = curves[plan.reference]
    target = reference.scores[(len(reference.scores) - 1) // 2]
    table = comparison(list(curves.values()), reference, target, plan.budget_bytes)
    wide = None if sys.stdout.isatty() else 160
    Console(width=wide).print(table)
    if running:
        print(f"not finished: {', '.join(running)}")
    draw(list(curves.values()), folder / "curves.png", target)
    print(f"{reference.metric} by round and by bytes: {folder / 'curves.png'}")


if __name__ == "__main__":
    main()
