"""The command `scripts/reproduce`: run what is missing of a comparison, then print and draw it."""

from __future__ import annotations

import argparse
import inspect
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

from fedcomp import resume
from fedcomp.config import path_word, run_folder
from fedcomp.errors import FedcompError
from fedcomp.report.comparison import formats
from fedcomp.report.plots.curves import draw, read_curve
from fedcomp.report.summary import read_summary
from fedcomp.runtime import cpu_count
from scripts.reproductions import quantised, tables
from scripts.reproductions.plan import Plan
from scripts.reproductions.results import as_json, collect, columns, target_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedcomp.report.comparison.results import Column
    from scripts.reproductions.plan import Job
    from scripts.reproductions.quantising import Quantising
    from scripts.reproductions.results import Results

PLANS = (
    *("codecs", "ecqx", "fedcompress", "fedcompress_speech", "feddip", "feddip_cifar10", "fsfl"),
    *("ablation", "headline", "noniid", "partial", "voc", "chest_xray", "quantise"),
)
"""Modules of this package with a `PLAN`."""

MAY_BE_SAVED = ("data_dir", "dataset.verify", "dataset.download")
"""Settings under which figures are kept: where data come from, and nothing of what is done."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/reproduce", description=__doc__)
    parser.add_argument("name", choices=PLANS)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--only", action="append", metavar="RUN", help="this run; repeatable")
    parser.add_argument("--quick", action="store_true", help="short runs: minutes on two cores")
    parser.add_argument("--jobs", type=int, default=1, help="so many runs at a time")
    parser.add_argument("--folder", type=Path, default=Path("outputs/reproduce"))
    parser.add_argument(
        "--save",
        action="store_true",
        help="write the figures to conf/experiment/NAME.json, and to the tables of the READMEs",
    )
    given = parser.parse_intermixed_args()  # words may follow options
    module = import_module(f"scripts.reproductions.{given.name}")
    plan: Plan | Quantising = module.PLAN
    jobs = list(plan.jobs(quick=given.quick))
    names = list(dict.fromkeys(job.run for job in jobs))
    unknown = set(given.only or ()) - set(names)
    if unknown:
        parser.error(f"there is no run {min(unknown)!r}; choose of {', '.join(names)}")
    if given.jobs < 1:
        parser.error(f"--jobs {given.jobs}: at least 1")
    if given.quick and not plan.quick:
        parser.error(f"--quick: {given.name} has no short runs")
    others = [word for word in given.overrides if word.partition("=")[0] not in MAY_BE_SAVED]
    if given.save and (given.quick or others):
        parser.error(
            "--save: keeps figures of the runs as they are planned alone; there may be words for"
            f" {', '.join(MAY_BE_SAVED)}"
        )
    folder = given.folder.resolve() / (given.name + ("_quick" if given.quick else ""))
    wanted = [job for job in jobs if given.only is None or job.run in given.only]
    first = [job for job in jobs if job.run in {other.after for other in wanted}]
    last = [job for job in wanted if job not in first]
    failed: list[str] = []
    for stage in (first, last):  # what is quantised has to be there
        failed = failed or _run_all(plan, stage, folder, given)
    results = show(plan, jobs, folder)
    if given.save and results is not None:
        about = " ".join((inspect.getdoc(module) or "").split())
        save(given.name, {"about": about, **results})
    if failed:
        sys.exit(f"scripts/reproduce: {', '.join(failed)} failed; see the messages above")


def _run_all(
    plan: Plan | Quantising, jobs: Sequence[Job], folder: Path, given: argparse.Namespace
) -> list[str]:
    """Run jobs beside each other; return which of them failed."""
    with ThreadPoolExecutor(given.jobs) as pool:
        begun = {
            job: pool.submit(run, job, plan.given(job, given.overrides), folder, given.jobs)
            for job in jobs
        }
        try:
            return [job.folder for job, done in begun.items() if not done.result()]
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            sys.exit(130)


def run(job: Job, given: Sequence[str], place: Path, at_a_time: int = 1) -> bool:
    """Run one job in a process of its own unless it is there; tell whether it succeeded."""
    folder = place / job.folder
    words = shlex.join(given)
    note, log = folder.with_suffix(".txt"), folder.with_suffix(".log")
    begun = ["fedcomp", *given, run_folder(folder)]
    if job.after is not None:
        net = place / job.after / "model.safetensors"
        begun = ["fedcomp.quantise", *given, path_word("checkpoint", net), path_word("out", folder)]
    if folder.exists() and note.exists():
        if note.read_text(encoding="utf-8") != words:
            print(
                f"{job.folder}: {folder} holds a run with other settings, see {note.name} beside"
                " it; give another --folder, or move it away",
                file=sys.stderr,
            )
            return False
        if _finished(folder):
            print(f"{job.folder}: there already, in {folder}", flush=True)
            return True
        if resume.can_go_on(folder):
            begun = ["fedcomp", f"resume={shlex.quote(str(folder))}"]
        else:
            shutil.rmtree(folder)
    print(f"{job.folder}: {begun[0].replace('.', '-')} {words}", flush=True)
    place.mkdir(parents=True, exist_ok=True)
    note.write_text(words, encoding="utf-8")
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


def _finished(folder: Path) -> bool:
    if (folder / "quantise.json").is_file():
        return True
    try:
        return bool(read_summary(folder)["status"] == "finished")
    except FedcompError:
        return False


def show(plan: Plan | Quantising, jobs: Sequence[Job], folder: Path) -> Results | None:
    """Print, draw and return what has been run so far; None without what it is compared with."""
    if not isinstance(plan, Plan):
        results = quantised.collect(jobs, folder)
        _print(quantised.columns(results))
        return results if results["runs"] else None
    try:
        results = collect(plan, jobs, folder)
    except FedcompError as error:
        sys.exit(f"scripts/reproduce: {error}")
    if not any(entry["run"] == plan.reference for entry in results["runs"]):
        print(f"without the run {plan.reference} there is nothing to compare with")
        return None
    _print(columns(results))
    for case in plan.cases:
        chosen = [j for j in jobs if (j.case, j.seed) == (case, next(iter(plan.seeds), None))]
        there = [job for job in chosen if (folder / job.folder / "summary.json").exists()]
        curves = [read_curve(folder / job.folder, job.run, plan.counted) for job in there]
        if curves:
            path = folder / f"curves{case and '-'}{case}.png"
            draw(curves, path, target_of(plan, curves))
            print(f"{results['metric']} by round and by bytes: {path}")
    return results


def _print(columns: Sequence[Column]) -> None:
    table, _ = formats.text(columns, 10_000)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def save(name: str, results: Results, root: Path = tables.ROOT) -> None:
    """Keep figures, and bring the tables and pictures made of them up to date."""
    file = root / tables.FIGURES / f"{name}.json"
    file.write_text(as_json(results), encoding="utf-8")
    for path in (file, *tables.write(root)):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
