"""The command `fedcomp-report`."""

from __future__ import annotations

import argparse
import sys
from io import TextIOWrapper
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from fedcomp.commands import wide_console
from fedcomp.errors import DataError, FedcompError
from fedcomp.report.comparison import formats
from fedcomp.report.runs import all_folders, read_runs
from fedcomp.report.summary import authors_count, read_summary, table_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, RenderableType

    from fedcomp.report.runs import Run

_SPARSE = 0.5
"""From here on a model counts as sparse."""

_MOST_TABLES = 3
"""Of more runs the models are not timed, which takes seconds each."""

_TEXTS: dict[str, Callable[..., str]] = {
    "markdown": formats.markdown,
    "csv": formats.comma_separated,
    "latex": formats.latex,
}

_HELP = """\
Compare runs, finished or not: what they reached, and what they sent for it.

Runs that differ in nothing but the seed are one row: the mean of their last rounds, with the sample
deviation where there are several.  'best' is the mean of each run's best round, 'sent' all packets
both ways with evaluation, 'ratio' float32 both ways over what training sent, 'bits' what a weight
takes in a packet, 'model' how much smaller a file of the final model may be than float32, 'to 0.9'
what was sent up to the first round at that target, on average over the runs that reached it.
"""

_COMPARABLE = """\
Runs are refused, unless --any is given, where a reviewer would: with another data set, partition,
model, number of clients, share of clients a round, metric, or other targets.  Rounds, local
training, aggregator, network, link, seeds and versions that differ are named below the table.
"""


def main(arguments: list[str] | None = None) -> None:
    """Print a table of runs, and on request draw pictures and write a page."""
    given = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # names of folders may be any bytes
    try:
        _report(given)
    except (FedcompError, OSError) as error:
        sys.exit(f"fedcomp-report: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedcomp-report",
        description=_HELP,
        epilog=_COMPARABLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", nargs="+", type=Path, help="a run folder, or one with runs below it"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="write a page with all tables and pictures, and the pictures in a folder beside it",
    )
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="draw PNG and SVG files in this folder"
    )
    parser.add_argument(
        "--format", choices=["text", *_TEXTS], default="text", help="of the table that is printed"
    )
    parser.add_argument("--runs", action="store_true", help="print a row a run, comparable or not")
    parser.add_argument("--any", action="store_true", help="compare what is not comparable, too")
    parser.add_argument(
        "--target",
        action="append",
        type=float,
        metavar="VALUE",
        default=[],
        help="of the metric, in place of the runs' own targets; repeatable",
    )
    return parser


def _report(given: argparse.Namespace) -> None:
    folders = all_folders(given.folder)
    console = wide_console()
    if bad := [value for value in given.target if not isfinite(value)]:
        msg = f"--target {bad[0]}: is no value that a metric could reach; give a number"
        raise DataError(msg)
    if given.out is not None and (given.out.is_dir() or given.out.suffix not in (".html", ".htm")):
        msg = f"--out {given.out}: name a file that ends in .html"
        raise DataError(msg)
    if given.runs and given.format != "text":
        msg = f"--runs --format {given.format}: a row a run is for people; leave one of both out"
        raise DataError(msg)
    if given.runs:
        folders = [folder for folder in folders if (folder / "summary.json").is_file()]
        console.print(table_of(folders))
    if not given.runs or given.out or given.pictures:
        runs, skipped = read_runs(folders)
        for line in skipped:
            print(line, file=sys.stderr)
        if not runs:
            msg = "there is no run with a round to show"
            raise DataError(msg)
        _compare(runs, given, console)
        folders = [run.folder for run in runs]
    if given.format == "text":
        for folder in folders:
            if text := authors_count(read_summary(folder)):
                line = f"{folder}, by its authors' count: {text}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        for part in inference(folders):
            console.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))


def _compare(runs: Sequence[Run], given: argparse.Namespace, console: Console) -> None:
    """Print the table of groups and what is to be known of it; draw and write what is asked for."""
    from fedcomp.report.comparison.fairness import notes, refuse
    from fedcomp.report.comparison.groups import group
    from fedcomp.report.comparison.results import table

    groups = group(runs)
    if not given.any:
        refuse(groups, given.target)
    asked = (float(t) for run in runs for t in run.summary.get("bytes_to_target", {}))
    targets = list(dict.fromkeys(given.target or asked))
    columns, known = table(groups, targets), notes(groups)
    plain = given.format == "text"
    if plain and not given.runs:
        shown, left_out = formats.text(columns, console.width)
        console.print(shown, highlight=False)
        if left_out:
            print(f"no room for: {', '.join(left_out)}; see --format, or widen the window")
    elif not plain:
        print(_TEXTS[given.format](columns))
    out = sys.stdout if plain else sys.stderr
    for note in known:
        print(f"note: {note}", file=out)
    if given.out or given.pictures:
        from fedcomp.report.comparison.files import write

        for line in write(groups, columns, targets, known, given.out, given.pictures):
            print(line, file=out)


def inference(runs: list[Path]) -> Iterator[RenderableType]:
    """Yield a table of times for each run with a sparse model, or a line that says why not."""
    summaries = {run: read_summary(run) for run in runs}
    sparse = [run for run, found in summaries.items() if found.get("model_sparsity", 0) >= _SPARSE]
    if len(summaries) > _MOST_TABLES:
        if sparse:
            yield (
                f"{len(sparse)} of {len(summaries)} models are sparse; what that is worth in"
                f" inference shows fedcomp-report with a single run folder, such as {sparse[0]}"
            )
        return
    for run, summary in summaries.items():
        if run in sparse:
            from fedcomp.report.comparison.inference import table

            try:
                yield table(run, summary)
            except FedcompError as error:
                yield f"{run}: no inference table: {'; '.join(str(error).splitlines())}"
