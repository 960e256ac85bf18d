"""A codec's setting as a function of the round: bits, density, step or any other number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from fedcomp.codecs.sine import sine


@dataclass(frozen=True)
class Schedule:
    """v(t) from `start` in round 1 to `end` in round T; x = (t − 1) / (T − 1).

    Parameters
    ----------
    key
        The codec's setting that changes; whole numbers stay whole.
    start, end
        Its values at the ends.
    shape
        `constant`: start.  `linear`: start + (end − start)·x.  `cosine`: end + (start − end)·
        (1 + cos πx) / 2.  `cubic`: end + (start − end)·(1 − x)³.  `doubling`: twice the value, or
        half of it where end < start, after each `every` rounds, up to `end`; every=null: at such
        rounds that all values last equally long.  `late_doubling`: the same, but that each value
        but the last one lasts half of the rounds that are left, or leaves one for each other.
        `adaptive`: the same after each `every` rounds in which the training loss did not fall
        below its least.
    rounds
        T; null: all rounds of the run.

    Examples
    --------
    >>> cubic = Schedule("density", 0.5, 0.05, "cubic", rounds=1001)
    >>> [round(cubic.at_round(t), 3) for t in (1, 101, 251, 501, 1001)]
    [0.5, 0.378, 0.24, 0.106, 0.05]
    >>> late = Schedule("dimensions", 1000, 4000, "late_doubling", rounds=40)
    >>> [late.at_round(t) for t in (1, 20, 21, 30, 31, 40)]
    [1000.0, 1000.0, 2000.0, 2000.0, 4000, 4000]
    """

    key: str
    start: float
    end: float | None = None
    shape: Literal[
        "constant", "linear", "cosine", "cubic", "doubling", "late_doubling", "adaptive"
    ] = "linear"
    rounds: Annotated[int, Ge(1)] | None = None
    every: Annotated[int, Ge(1)] | None = None

    def __post_init__(self) -> None:
        wanted = {
            "end": self.shape != "constant",
            "every": {"doubling": None, "adaptive": True}.get(self.shape, False),
            "rounds": None if self.needs_rounds else False,
        }
        for name, needed in wanted.items():
            given = getattr(self, name) is not None
            if needed is not None and given != needed:
                asked = "is needed" if needed else "means nothing"
                msg = f"{name} {asked} where shape={self.shape}"
                raise ValueError(msg)
        if self.doubles and not (self.start > 0 and (self.end or 0) > 0):
            msg = f"what doubles is more than 0; start is {self.start:g}, end {self.end:g}"
            raise ValueError(msg)

    @property
    def needs_rounds(self) -> bool:
        """Whether the value follows from the share of the rounds that have passed."""
        stages = self.shape == "doubling" and self.every is None
        return stages or self.shape in ("linear", "cosine", "cubic", "late_doubling")

    @property
    def doubles(self) -> bool:
        """Whether the value is doubled or halved, time after time."""
        return self.shape in ("doubling", "late_doubling", "adaptive")

    @property
    def adaptive(self) -> bool:
        """Whether the value depends on the losses and not on the round."""
        return self.shape == "adaptive"

    @property
    def doublings(self) -> int:
        """How many times the value changes where it `doubles`."""
        assert self.end is not None  # noqa: S101  see __post_init__
        least, most = sorted((self.start, self.end))
        count = 0
        while least < most:
            least, count = least * 2, count + 1
        return count

    def at_round(self, number: int) -> float:
        """Return the value in a round; 1 is the first."""
        if self.shape in ("doubling", "late_doubling"):
            return self.after(self._passed(max(number - 1, 0)))
        if self.end is None or self.shape == "adaptive":
            return self.start
        assert self.rounds is not None  # noqa: S101  see `Codec.over`
        x = min(max((number - 1) / max(self.rounds - 1, 1), 0.0), 1.0)
        share = x
        if self.shape == "cubic":
            share = 1 - (1 - x) * (1 - x) * (1 - x)
        elif self.shape == "cosine":
            half = float(sine(np.array(math.pi / 2 * x)))
            share = half * half
        least, most = sorted((self.start, self.end))
        return min(max(self.start + (self.end - self.start) * share, least), most)

    def _passed(self, rounds: int) -> int:
        """Return how many values have had their time after so many rounds."""
        if self.every is not None:
            return rounds // self.every
        assert self.rounds is not None  # noqa: S101  see `Codec.over`
        if self.shape == "late_doubling":
            return sum(rounds >= self.rounds - self._left(k) for k in range(self.doublings))
        return rounds * (self.doublings + 1) // self.rounds

    def _left(self, doublings: int) -> int:
        """Return how many rounds `late_doubling` leaves for what comes after a value."""
        assert self.rounds is not None  # noqa: S101
        others = self.doublings - doublings
        return min(max(self.rounds >> (doublings + 1), others), self.rounds - 1)

    def after(self, doublings: int) -> float:
        """Return the value after so many doublings or halvings."""
        assert self.end is not None  # noqa: S101
        if doublings >= self.doublings:
            return self.end
        return self.start * 2.0 ** (-doublings if self.end < self.start else doublings)
