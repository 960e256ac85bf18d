"""What has become worse than the ratios of a baseline, and what could not be compared with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from scripts.benchmarks.rows import Row

MARGIN = 1.15
NO_RATIO = "has no ratio that lasts"


@dataclass
class Verdict:
    """What a check of one benchmark came to.

    Attributes
    ----------
    compared
        How many rows were compared.
    worse
        Ratios before and now of the rows that fail.
    missing
        Rows of the baseline that the benchmark has no more; they fail, too.
    new
        Rows that the baseline does not have.
    unknown
        Rows that were not compared, and why.
    """

    compared: int = 0
    worse: dict[str, tuple[float, float]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the check fails."""
        return bool(self.worse or self.missing)

    @property
    def skipped(self) -> str:
        """Why no row at all was compared; empty where one was."""
        if self.compared or self.missing:
            return ""
        if self.new:
            return "none of its rows is in the baseline"
        return next(iter(self.unknown.values()), NO_RATIO)

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
            gone = f"{NO_RATIO}; --save takes it out of the baseline"
            verdict.unknown[name] = row.remark if row.lacks_peer else gone
        else:
            verdict.compared += 1
            if now > MARGIN * before:
                verdict.worse[name] = before, now
    return verdict


def conclusion(
    verdicts: Mapping[str, Verdict], skipped: Mapping[str, str], *, failed: bool
) -> Iterator[str]:
    """Say what differs, then the outcome, and last which whole benchmarks were not compared."""
    for name, verdict in verdicts.items():
        yield from verdict.lines(name)
    left = {**skipped, **{name: v.skipped for name, v in verdicts.items() if v.skipped}}
    if failed:
        yield "the check failed"
    elif not any(verdict.compared for verdict in verdicts.values()):
        yield "nothing was compared"
    else:
        some = left or any(verdict.unknown for verdict in verdicts.values())
        yield "no ratio that was compared is worse" if some else "no ratio is worse"
    for name, reason in left.items():
        yield f"not compared: {name}: {reason}"
