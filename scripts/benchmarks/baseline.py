"""The ratios that lie in the tree, and what has become worse than they are.

Seconds beside a fixed bound are left out: their ratio is the machine's and its load's. A benchmark
whose rows are worse is measured again, at most `AGAIN` times, and of each row the best ratio
counts: a program that became slower stays so, a busy machine does not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from scripts.benchmarks.rows import Row

FILE = Path(__file__).with_name("baseline.json")
MARGIN = 1.15
AGAIN = 2

Entry: TypeAlias = "Mapping[str, Any]"
"""What is known of a benchmark: date, machine, versions, and a ratio for each row that has one."""


@dataclass
class Verdict:
    """What a check of one benchmark came to.

    Attributes
    ----------
    worse
        Ratios before and now of the rows that fail.
    missing
        Rows of the baseline that the benchmark has no more; they fail, too.
    new
        Rows that the baseline does not have.
    unknown
        Rows that were not compared, and why.
    """

    worse: dict[str, tuple[float, float]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the check fails."""
        return bool(self.worse or self.missing)

    def lines(self, benchmark: str) -> Iterator[str]:
        """Say it, a line a row."""
        for row, (before, now) in self.worse.items():
            change = f"ratio {now:.3g}, {now / before - 1:.0%} above the baseline's {before:.3g}"
            yield f"worse: {benchmark}: {row}: {change}"
        for row in self.missing:
            yield f"missing: {benchmark}: {row}; --save takes it out of the baseline"
        for row in self.new:
            yield f"new: {benchmark}: {row}; --save puts it into the baseline"
        for row, reason in self.unknown.items():
            yield f"not compared: {benchmark}: {row}: {reason}"


def check(
    measure: Callable[[], Sequence[Row]], ratios: Mapping[str, float]
) -> tuple[list[Row], Verdict]:
    """Measure a benchmark until no row is worse, or for the last time; return the best rows."""
    rows = {row.name: row for row in measure()}
    for _ in range(AGAIN):
        if not compare(rows.values(), ratios).worse:
            break
        for row in measure():
            known = rows.get(row.name)
            if known is None or _or_infinite(row) < _or_infinite(known):
                rows[row.name] = row
    return list(rows.values()), compare(rows.values(), ratios)


def compare(rows: Iterable[Row], ratios: Mapping[str, float]) -> Verdict:
    """Compare rows with the ratios of a baseline."""
    verdict = Verdict()
    found = {row.name: row for row in rows}
    verdict.missing.extend(name for name in ratios if name not in found)
    for name, row in found.items():
        now, before = row.lasting_ratio, ratios.get(name)
        if before is None:
            if now is not None:
                verdict.new.append(name)
        elif now is None:
            verdict.unknown[name] = row.remark or "it has no ratio"
        elif now > MARGIN * before:
            verdict.worse[name] = before, now
    return verdict


def read(file: Path = FILE) -> dict[str, Entry]:
    """Return the baseline of each benchmark."""
    if not file.is_file():
        return {}
    found: dict[str, Entry] = json.loads(file.read_text(encoding="utf-8"))
    return found


def save(
    measured: Mapping[str, Sequence[Row]], about: Mapping[str, Any], file: Path = FILE
) -> None:
    """Write the ratios of measured benchmarks; the others, and rows without a peer, stay."""
    known = read(file)
    for benchmark, rows in measured.items():
        old = known.get(benchmark, {"ratios": {}})["ratios"]
        now = {row.name: row.lasting_ratio or old.get(row.name) for row in rows}
        if len(now) < len(rows):
            msg = f"benchmark {benchmark} has several rows of one name; give each its own"
            raise ConfigError(msg)
        ratios = {name: float(f"{ratio:.4g}") for name, ratio in now.items() if ratio is not None}
        known[benchmark] = {**about, "ratios": ratios}
    ordered = {benchmark: known[benchmark] for benchmark in sorted(known)}
    text = json.dumps(ordered, indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def _or_infinite(row: Row) -> float:
    return float("inf") if row.lasting_ratio is None else row.lasting_ratio
