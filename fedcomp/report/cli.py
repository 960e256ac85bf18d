"""The command `fedcomp-report`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from fedcomp.errors import FedcompError
from fedcomp.report.summary import comparison, find_runs, read_summary


def main(arguments: list[str] | None = None) -> None:
    """Print a table of runs, finished or not."""
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
    Console(width=wide).print(table)
