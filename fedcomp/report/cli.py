"""The command `fedcomp-report`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fedcomp.errors import FedcompError
from fedcomp.report.summary import authors_count, comparison, find_runs, read_summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

_SPARSE = 0.5
"""From here on a model counts as sparse."""

_MOST_TABLES = 3
"""Of more runs the models are not timed, which takes seconds each."""


def main(arguments: list[str] | None = None) -> None:
    """Print a table of runs, finished or not; of a few, also the times of sparse models."""
    parser = argparse.ArgumentParser(
        prog="fedcomp-report", description="Compare runs: accuracy, bytes both ways, ratio, time."
    )
    parser.add_argument("folder", nargs="+", type=Path, help="a run folder, or one with runs in it")
    chosen = parser.parse_args(arguments)
    try:
        runs = [run for folder in chosen.folder for run in find_runs(folder) or [folder]]
        for run in runs:
            read_summary(run)
        table = comparison(runs)
    except FedcompError as error:
        sys.exit(f"fedcomp-report: {error}")
    wide = None if sys.stdout.isatty() else 200
    console = Console(width=wide)
    console.print(table)
    for run in runs:
        if text := authors_count(read_summary(run)):
            console.print(f"{run}, by its authors' count: {text}", markup=False, highlight=False)
    for part in inference(runs):
        console.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))


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
        if "input_shape" not in summary:
            yield f"{run}: no inference table: its summary.json, an older one, has no input_shape"
        elif run in sparse:
            from fedcomp.report.inference import table

            try:
                yield table(run, summary)
            except FedcompError as error:
                yield f"{run}: no inference table: {'; '.join(str(error).splitlines())}"
