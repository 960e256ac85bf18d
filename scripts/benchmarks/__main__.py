"""The command `scripts/bench`: run benchmarks, print one table, write it as JSON on request."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

from fedcomp.report.runfolder import versions
from fedcomp.runtime import cpu_count
from scripts.benchmarks.rows import Row, table

BENCHMARKS = (
    *("foundation", "coding", "link", "data"),
    *("fsfl", "codecs", "clusters", "ecq", "relevance", "report"),
)
"""Modules of this package with a function `rows`."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here too")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; choose of {', '.join(BENCHMARKS)}")
    if given.json and not given.json.parent.is_dir():
        parser.error(f"--json {given.json}: the folder {given.json.parent} does not exist")
    found: list[Row] = []
    for name in given.names or BENCHMARKS:
        for row in import_module(f"scripts.benchmarks.{name}").rows():
            print(f"measured {name}: {row.name}", file=sys.stderr)
            found.append(row)
    print(table(found))
    if given.json:
        machine = {"cores": cpu_count(), "versions": versions()}
        content = {"machine": machine, "rows": [row.as_dict() for row in found]}
        given.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
