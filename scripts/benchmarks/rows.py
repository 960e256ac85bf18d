"""Rows of the result table: ours beside a peer of the same run, or beside a fixed bound."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HEADER = ("row", "ours", "peer or bound", "ratio", "target", "met", "remark")


@dataclass(frozen=True)
class Row:
    """One measured quantity; smaller is better.

    Attributes
    ----------
    ours, other
        Every turn without warm-up; the table shows medians.  `other` is empty where a quantity
        is only stated, or where the peer is not there.
    kind
        Whether `other` was measured at a peer in the same run or is a bound.
    target
        The largest ratio ours/other that meets the target; None where there is no target.
    """

    name: str
    unit: str
    ours: Sequence[float]
    other: Sequence[float] = ()
    kind: Literal["peer", "bound", "none"] = "none"
    target: float | None = None
    remark: str = ""

    @property
    def ratio(self) -> float | None:
        """Median of ours over median of the other."""
        return median(self.ours) / median(self.other) if self.other else None

    @property
    def lasting_ratio(self) -> float | None:
        """The ratio, but none of a time to a fixed bound: that is the machine's as well."""
        return None if self.kind == "bound" and self.unit in ("s", "ns") else self.ratio

    @property
    def lacks_peer(self) -> bool:
        """Whether the row has a ratio where its peer is installed, and none here."""
        return self.kind == "peer" and not self.other

    @property
    def met(self) -> bool | None:
        """Whether the ratio is within the target; None without one."""
        if self.target is None or self.ratio is None:
            return None
        return self.ratio <= self.target

    def as_dict(self) -> dict[str, Any]:
        """Return all that the table shows, and the repeats behind it."""
        shown = {
            "ours_median": median(self.ours),
            "other_median": median(self.other) if self.other else None,
            "ratio": self.ratio,
            "met": self.met,
        }
        return {**asdict(self), **shown}

    def cells(self) -> tuple[str, ...]:
        """Return the row as the table shows it."""
        other = f"{median(self.other):.4g} {self.unit}" if self.other else "–"
        return (
            self.name,
            f"{median(self.ours):.4g} {self.unit}",
            f"{other} (bound)" if self.kind == "bound" else other,
            "–" if self.ratio is None else f"{self.ratio:.3g}",
            "–" if self.target is None else f"<= {self.target:.3g}",
            "–" if self.met is None else ("yes" if self.met else "no"),
            self.remark,
        )


def bounded(name: str, unit: str, ours: Sequence[float], bound: float, remark: str = "") -> Row:
    """Return a row whose value has to stay below a bound."""
    return Row(name, unit, ours, (bound,), "bound", 1.0, remark)


def missed(rows: Iterable[Row]) -> Iterator[str]:
    """Say which targets are missed, a line each."""
    for row in rows:
        if row.met is False:
            ratio = f"ratio {row.ratio:.3g}, at most {row.target:.3g} asked"
            yield f"target missed: {row.name}: {ratio}"


def table(rows: Sequence[Row]) -> str:
    """Return rows as plain text in columns.

    Examples
    --------
    >>> print(table([Row("round", "s", [1.0, 3.0, 2.0], [2.5], "peer", 1.1)]))
    row    ours  peer or bound  ratio  target  met  remark
    round  2 s   2.5 s          0.8    <= 1.1  yes
    """
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
