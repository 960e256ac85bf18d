"""What a comparison consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.report.plots.curves import Counted


@dataclass(frozen=True)
class Plan:
    """Runs that differ in what is compared and in nothing else.

    Attributes
    ----------
    field
        The words that all runs share.
    runs
        The words of each run by its name.
    reference
        The run that gives the target, the metric after half its rounds, and the bytes to reach it.
    counted
        Which bytes are compared.
    budget_bytes
        A number of bytes at which all runs are compared, too.
    """

    field: tuple[str, ...]
    runs: Mapping[str, tuple[str, ...]]
    reference: str
    counted: Counted = "both"
    budget_bytes: int | None = None
