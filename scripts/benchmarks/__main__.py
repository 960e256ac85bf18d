"""The command `scripts/bench`: run benchmarks, print one table, write it or check it on request."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.benchmarks import baseline
from scripts.benchmarks.rows import Row, table
from scripts.machine import measured_on

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCHMARKS = (
    *("foundation", "coding", "link", "data"),
    *("fsfl", "codecs", "clusters", "ecq", "relevance", "report", "peers"),
)
"""Modules of this package with a function `rows`."""

_CHECK = f"""
--check fails with exit code 1, and names the rows, where a ratio is more than
{baseline.MARGIN - 1:.0%} above that in {baseline.FILE.name}, or a row is no more there.
A benchmark with worse rows is measured again, at most {baseline.AGAIN} times, and of
each row the best ratio counts. Rows without their peer are not compared, nor are
seconds beside a fixed bound.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; leave with 1 where a check fails."""
    given = _parsed(arguments)
    about = measured_on()
    known = baseline.read()
    compared = [name for name in BENCHMARKS if name in known and known[name]["ratios"]]
    names = given.names or (compared if given.check else BENCHMARKS)
    found: dict[str, list[Row]] = {}
    said: list[str] = []
    failed = False
    for name in names:
        if given.check:
            measure = partial(_measured, name)
            found[name], verdict = baseline.check(measure, known[name]["ratios"])
            said += verdict.lines(name)
            failed |= verdict.failed
        else:
            found[name] = _measured(name)
    every = [row for rows in found.values() for row in rows]
    print(table(every))
    if given.json:
        content = {**about, "rows": [row.as_dict() for row in every]}
        given.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if given.save:
        baseline.save(found, about)
    if given.check:
        print("\n".join(["", *said, "the check failed" if failed else "no ratio is worse"]))
    sys.exit(int(failed))


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, epilog=_CHECK)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here too")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--check", action="store_true", help="compare with the baseline")
    either.add_argument("--save", action="store_true", help="take these ratios as the baseline's")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose of {', '.join(BENCHMARKS)}")
    if given.json and not given.json.parent.is_dir():
        parser.error(f"--json {given.json}: the folder {given.json.parent} does not exist")
    known = baseline.read()
    without = [name for name in given.names or BENCHMARKS if name not in known]
    if given.check and (without if given.names else not known):
        parser.error(f"there is no baseline of {without[0]}; scripts/bench {without[0]} --save")
    if given.check and without:
        print(f"not checked, for they have no baseline: {', '.join(without)}", file=sys.stderr)
    return given


def _measured(name: str) -> list[Row]:
    """Return the rows of a benchmark, and say of each that it is there."""
    rows = []
    for row in import_module(f"scripts.benchmarks.{name}").rows():
        print(f"measured {name}: {row.name}", file=sys.stderr)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
