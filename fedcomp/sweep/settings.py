"""The settings of a sweep itself, which its runs never see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge


@dataclass(frozen=True)
class SweepSettings:
    """What is run, and how much of it at a time.

    Parameters
    ----------
    over
        Words, as on the command line, where those of the same key take their place.
    parallel
        Runs at a time, each with its share of the cores.
    """

    over: tuple[str, ...] = ()
    parallel: Annotated[int, Ge(1)] = 1
