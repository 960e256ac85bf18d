"""The ratios that lie in the tree, and how often a benchmark is measured beside or for them.

Seconds beside a fixed bound are left out: their ratio is the machine's and its load's. A benchmark
whose rows are worse is measured again, at most `AGAIN` times, and of each row the least of ours
counts beside the least of the peer's: a program that became slower stays so, a busy machine does
not, whichever of the two it held up.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

from fedcomp.errors import ConfigError, DataError
from fedcomp.storage import save_text
from scripts.benchmarks.verdict import NO_RATIO, Verdict, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from scripts.benchmarks.rows import Row

FILE = Path(__file__).with_name("baseline.json")
AGAIN = 2
FOR_BASELINE = 3
"""Measurements for a baseline, of which each row's middle one counts.  With the best of two the
check failed on unchanged code: ratios of two threads or of Ray's processes vary by a quarter from
hour to hour on a shared machine, and a lucky one is not reached again."""

Entry: TypeAlias = "Mapping[str, Any]"
"""What is known of a benchmark: date, machine, versions, and a ratio for each row that has one."""


def check(
    measure: Callable[[], Sequence[Row]], ratios: Mapping[str, float]
) -> tuple[list[Row], Verdict]:
    """Measure a benchmark until no row is worse, or for the last time; return the best of all."""
    rows = _named(measure())
    for _ in range(AGAIN):
        if not compare(rows.values(), ratios).worse:
            break
        rows = _better(rows, _named(measure()))
    return list(rows.values()), compare(rows.values(), ratios)


def typical(measure: Callable[[], Sequence[Row]]) -> list[Row]:
    """Measure `FOR_BASELINE` times, but once where no ratio lasts; return each row's middle one."""
    measured = [_named(measure())]
    if any(row.lasting_ratio is not None for row in measured[0].values()):
        measured += [_named(measure()) for _ in range(FOR_BASELINE - 1)]
    return [_middle([rows[name] for rows in measured]) for name in measured[0]]


def read(file: Path = FILE) -> dict[str, Entry]:
    """Return the baseline of each benchmark."""
    if not file.is_file():
        return {}
    try:
        found: dict[str, Entry] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{file} is damaged ({error}); bring back the one of the last commit"
        raise DataError(msg) from error
    return found


def differences(entry: Entry, about: Mapping[str, Any]) -> str:
    """Say where a baseline's machine and versions differ from those here; empty if nowhere."""
    found = []
    for group in ("machine", "versions"):
        here = about[group]
        found += [
            f"{key} {value} there, {here.get(key)} here"
            for key, value in entry[group].items()
            if value != here.get(key)
        ]
    return "; ".join(found)


def skipped(benchmarks: Iterable[str], known: Mapping[str, Entry]) -> dict[str, str]:
    """Return the benchmarks that cannot be compared with what is known, and why."""
    found = {}
    for name in benchmarks:
        if name not in known:
            found[name] = f"has no baseline: scripts/bench {name} --save"
        elif not known[name]["ratios"]:
            found[name] = NO_RATIO
    return found


def save(
    measured: Mapping[str, Sequence[Row]], about: Mapping[str, Any], file: Path = FILE
) -> dict[str, str]:
    """Write the ratios of measured benchmarks; return those that were not written, and why.

    One date and one machine stand for all ratios of a benchmark: where a row lacks its peer, the
    whole entry stays as it was.
    """
    known = read(file)
    unsaved = {}
    for benchmark, rows in measured.items():
        lacking = [row for row in rows if row.lacks_peer]
        if lacking:
            number = f"{len(lacking)} of its {len(rows)} rows were not measured"
            unsaved[benchmark] = f"{number}: {lacking[0].remark}"
            continue
        now = {row.name: row.lasting_ratio for row in rows}
        ratios = {name: float(f"{ratio:.4g}") for name, ratio in now.items() if ratio is not None}
        known[benchmark] = {**about, "ratios": ratios}
    ordered = {benchmark: known[benchmark] for benchmark in sorted(known)}
    text = json.dumps(ordered, indent=2, ensure_ascii=False)
    save_text(text + "\n", file)
    return unsaved


def _named(rows: Sequence[Row]) -> dict[str, Row]:
    named = {row.name: row for row in rows}
    if len(named) < len(rows):
        msg = "several rows have one name; give each its own"
        raise ConfigError(msg)
    return named


def _middle(rows: Sequence[Row]) -> Row:
    return sorted(rows, key=lambda row: row.lasting_ratio or 0.0)[len(rows) // 2]


def _better(known: Mapping[str, Row], rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return rows with what was better in one of them and in those of another measurement."""
    return {name: _least(known.get(name, row), row) for name, row in rows.items()}


def _least(before: Row, after: Row) -> Row:
    """Return what was least of ours, with its remark, beside what was least of the other."""
    ours, other = min(before, after, key=_ours), min(before, after, key=_other)
    return replace(ours, other=other.other)


def _ours(row: Row) -> float:
    return median(row.ours)


def _other(row: Row) -> float:
    return median(row.other) if row.other else float("inf")
