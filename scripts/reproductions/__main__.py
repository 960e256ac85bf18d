"""The command `scripts/reproduce`: run what is missing of a comparison, then print and draw it."""

from __future__ import annotations

import argparse
import inspect
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fedcomp.commands import wide_console
from fedcomp.errors import FedcompError
from fedcomp.report.comparison import formats
from fedcomp.resume import Start
from scripts.reproductions import quantised, tables
from scripts.reproductions.curves import draw, read_curve
from scripts.reproductions.plan import Plan
from scripts.reproductions.results import as_json, collect, columns, target_of
from scripts.reproductions.running import MAY_DIFFER, measured, planned, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fedcomp.report.comparison.results import Column
    from scripts.reproductions.plan import Job
    from scripts.reproductions.quantising import Quantising
    from scripts.reproductions.results import Results

PLANS = (
    *("codecs", "ecqx", "fedcompress", "fedcompress_speech", "feddip", "feddip_cifar10", "fsfl"),
    *("ablation", "headline", "noniid", "partial", "voc", "chest_xray", "quantise"),
)
"""Modules of this package with a `PLAN`."""


def main() -> None:
    given = _parsed()
    module, plan, words = given.module, given.plan, given.words
    wanted = {job: words[job] for job in words if given.only is None or job.run in given.only}
    needed = {other.after for other in wanted}
    first = {job: words[job] for job in words if job.run in needed}
    last = {job: given for job, given in wanted.items() if job not in first}
    failed = _run_all(first, given.place, given.jobs)  # what is quantised has to be there
    failed = failed or _run_all(last, given.place, given.jobs)
    there = planned(words, given.place)
    for job in words:
        if job not in there:
            print(f"{job.folder}: left out, for its folder holds another run", file=sys.stderr)
    results = show(plan, there, given.place)
    if failed:
        sys.exit(f"scripts/reproduce: {', '.join(failed)} failed; see the messages above")
    if given.save:
        try:
            about = " ".join((inspect.getdoc(module) or "").split())
            about += f" With {' '.join(plan.full)}." if given.size == "full" else ""
            save(given.title, {"about": about, **measured(words, given.place), **(results or {})})
        except FedcompError as error:
            sys.exit(f"scripts/reproduce: nothing is saved: {error}")


def _parsed() -> argparse.Namespace:
    """Return what is given, with its plan, the title and folder of its figures, and its words."""
    parser = argparse.ArgumentParser(prog="scripts/reproduce", description=__doc__)
    parser.add_argument("name", choices=PLANS)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every run")
    parser.add_argument("--only", action="append", metavar="RUN", help="this run; repeatable")
    sizes = parser.add_mutually_exclusive_group()
    for size, text in (
        ("quick", "short runs: minutes on two cores"),
        ("full", "long runs: for a machine with a GPU"),
    ):
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=size, help=text)
    parser.add_argument("--jobs", type=int, default=1, help="so many runs at a time")
    parser.add_argument("--folder", type=Path, default=Path("outputs/reproduce"))
    parser.add_argument(
        "--save",
        action="store_true",
        help="write the figures to conf/experiment/NAME.json, and to the tables of the READMEs,"
        " once all runs have finished",
    )
    given = parser.parse_intermixed_args()  # words may follow options
    given.module = import_module(f"scripts.reproductions.{given.name}")
    plan: Plan | Quantising = given.module.PLAN
    given.plan, given.size = plan, given.size or ""
    jobs = list(plan.jobs(given.size))
    names = list(dict.fromkeys(job.run for job in jobs))
    unknown = set(given.only or ()) - set(names)
    if unknown:
        parser.error(f"there is no run {min(unknown)!r}; choose of {', '.join(names)}")
    if given.jobs < 1:
        parser.error(f"--jobs {given.jobs}: at least 1")
    if given.size and not plan.more(given.size):
        length = {"quick": "short", "full": "long"}[given.size]
        parser.error(f"--{given.size}: {given.name} has no {length} runs")
    others = [word for word in given.overrides if word.partition("=")[0] not in MAY_DIFFER]
    if given.save and (given.size == "quick" or others):
        parser.error(
            "--save: keeps figures of the runs as they are planned alone; there may be words for"
            f" {', '.join(MAY_DIFFER)}"
        )
    given.title = "_".join(filter(None, (given.name, given.size)))
    given.place = given.folder.resolve() / given.title
    given.words = {job: plan.given(job, given.overrides) for job in jobs}
    if alike := _alike(given.words, given.overrides):
        parser.error(alike)
    try:
        given.place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--folder {given.folder}: {given.place} cannot be made: {error.strerror}")
    return given


def _run_all(given: Mapping[Job, Sequence[str]], folder: Path, at_a_time: int) -> list[str]:
    """Run jobs beside each other; return which of them failed."""
    with ThreadPoolExecutor(at_a_time) as pool:
        begun = {
            job: pool.submit(run, job, words, folder, at_a_time) for job, words in given.items()
        }
        try:
            return [job.folder for job, done in begun.items() if not done.result()]
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            sys.exit(130)


def _alike(given: Mapping[Job, Sequence[str]], overrides: Sequence[str]) -> str | None:
    """Return two jobs that words for all would make the same run of, in a sentence."""
    found: dict[tuple[str, ...], str] = {}
    for job in given:
        words = tuple(Start("", list(job.words)).merged(list(overrides)))
        other = found.setdefault(words, job.folder)
        if other != job.folder:
            return f"with {' '.join(overrides)}, {other} and {job.folder} would be the same run"
    return None


def show(plan: Plan | Quantising, jobs: Iterable[Job], folder: Path) -> Results | None:
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
    wide_console().print(table)


def save(name: str, results: Results, root: Path = tables.ROOT) -> None:
    """Keep figures, and bring the tables and pictures made of them up to date."""
    file = root / tables.FIGURES / f"{name}.json"
    file.write_text(as_json(results), encoding="utf-8")
    for path in (file, *tables.write(root)):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
