"""What a comparison consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    """

    field: tuple[str, ...]
    runs: Mapping[str, tuple[str, ...]]
    reference: str
