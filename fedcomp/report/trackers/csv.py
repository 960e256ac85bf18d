"""The tables of the run folder, which every run writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fedcomp.report.trackers.base import TrackerSettings


@dataclass(frozen=True)
class Csv(TrackerSettings):
    """Leave it at `rounds.csv` and its neighbours."""

    name: ClassVar[str] = "csv"

    def create(self) -> None:
        """Return nothing: there is no more to do."""
