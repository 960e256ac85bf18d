"""The command `scripts/bench`: run benchmarks, print one table, write it or check it on request."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedcomp.errors import DataError
from scripts.benchmarks import baseline
from scripts.benchmarks.rows import Row, missed, table
from scripts.benchmarks.verdict import MARGIN, Verdict, conclusion
from scripts.machine import measured_on

if TYPE_CHECKING:
    from collections.abc import Sequence

BENCHMARKS = (
    *("foundation", "coding", "link", "data"),
    *("fsfl", "codecs", "clusters", "ecq", "relevance", "report", "peers"),
)
"""Modules of this package with a function `rows`."""

PEERS = ("scikit-learn", "torchvision")
"""Packages that benchmarks compare with, beside those that every result depends on."""

_CHECK = f"""
--check fails with exit code 1, and names the rows, where a ratio is more than
{MARGIN - 1:.0%} above that in {baseline.FILE.name}, or a row is no more there,
or nothing at all could be compared. A benchmark with worse rows is measured again, at
most {baseline.AGAIN} times; of each row the least of ours counts beside the least of the
peer's. Rows without their peer are not compared, nor are seconds beside a fixed bound;
the last lines name the benchmarks of which no row was. --save measures
{baseline.FOR_BASELINE} times, takes the middle ratio of each row, and writes a benchmark when it
has ended; one with rows that lack their peer is not saved. Where that happens, or a benchmark
ends in an error, the others go on, and the exit code is 1.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; leave with 1 where a check or a benchmark fails, or one is not saved."""
    given = _parsed(arguments)
    about = _about()
    known = baseline.read()
    skipped = baseline.skipped(BENCHMARKS, known) if given.check and not given.names else {}
    names = given.names or [name for name in BENCHMARKS if name not in skipped]
    found: dict[str, list[Row]] = {}
    verdicts: dict[str, Verdict] = {}
    problems: list[str] = []
    for name in names:
        measure = partial(_measured, name)
        try:
            if given.check:
                found[name], verdicts[name] = baseline.check(measure, known[name]["ratios"])
            elif given.save:
                found[name] = baseline.typical(measure)
                unsaved = baseline.save({name: found[name]}, about)
                problems += [f"not saved: {name}: {reason}" for reason in unsaved.values()]
            else:
                found[name] = measure()
        except KeyboardInterrupt:
            left = names[names.index(name) :]
            skipped |= dict.fromkeys(left, "interrupted")
            print(f"interrupted: not measured: {', '.join(left)}", file=sys.stderr)
            break
        except Exception as error:
            problems.append(f"failed: {name}: {_in_a_line(error)}")
            print(problems[-1], file=sys.stderr)
    every = [row for rows in found.values() for row in rows]
    print(table(every))
    print(*missed(every), sep="\n")
    if given.json:
        content = {**about, "rows": [row.as_dict() for row in every]}
        given.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    failed = bool(problems) or any(verdict.failed for verdict in verdicts.values())
    if given.check:
        for name in verdicts:
            if differ := baseline.differences(known[name], about):
                print(f"the baseline of {name} has another machine or versions: {differ}")
        print("", *conclusion(verdicts, skipped, failed=failed), sep="\n", flush=True)
        failed |= not any(verdict.compared for verdict in verdicts.values())
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    sys.exit(130 if "interrupted" in skipped.values() else int(failed))


def _about() -> dict[str, Any]:
    """Return what was measured on, peers' versions included."""
    about = measured_on()
    peers = {name: version(name) for name in PEERS}
    return {**about, "versions": {**about["versions"], **peers}}


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
    if given.json and given.json.is_dir():
        parser.error(f"--json {given.json} is a folder; name a file")
    try:
        known = baseline.read()
    except DataError as error:
        parser.error(str(error))
    without = [name for name in given.names or BENCHMARKS if name not in known]
    if given.check and (without if given.names else not known):
        parser.error(f"there is no baseline of {without[0]}; scripts/bench {without[0]} --save")
    return given


def _measured(name: str) -> list[Row]:
    """Return the rows of a benchmark, and say of each that it is there."""
    rows = []
    for row in import_module(f"scripts.benchmarks.{name}").rows():
        print(f"measured {name}: {row.name}", file=sys.stderr)
        rows.append(row)
    return rows


def _in_a_line(error: Exception) -> str:
    """Return what kind of error it is, the first and the last line that it says, and its place.

    The message of a child process that failed ends in that process's log.
    """
    lines = str(error).splitlines() or ["no message"]
    said = " … ".join(dict.fromkeys((lines[0], lines[-1])))
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {said} ({Path(place.filename).name}:{place.lineno})"


if __name__ == "__main__":
    main()
