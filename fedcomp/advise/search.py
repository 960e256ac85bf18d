"""The setting of each codec that loses least of an update and fits a budget.

A packet grows along a line of settings: the last one that fits is bisected.  Most codecs lose less
the more they send; where one does not (STC sends all weights at one size) the least error up to
there is bisected, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.advise.knobs import lines
from fedcomp.errors import CodecError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fedcomp.advise.knobs import Line, Value
    from fedcomp.advise.measure import Bench, Measured
    from fedcomp.codecs.base import Codec
    from fedcomp.errors import FedcompError

COARSE = 2.0**-10
"""FSFL's step of biases, norms and scales, for packets that have no room for finer ones."""


class Trial(NamedTuple):
    """A packet of some settings; one that does not fit has no error."""

    settings: dict[str, Value]
    codec: Codec
    packet_bytes: int
    error: float


@dataclass(frozen=True)
class Answer:
    """What a codec can do: its best packet that fits, or its smallest one."""

    name: str
    settings: dict[str, Value]
    measured: Measured
    fits: bool


def best_setting(
    name: str, make: Callable[[Mapping[str, Value]], Codec], bench: Bench, budget: int
) -> Answer:
    """Return the setting of a codec with the least error that fits, else that of the least size.

    Parameters
    ----------
    make
        Makes the codec of some settings; what a run does not allow is a `ConfigError`.
    """
    found: list[Trial] = []
    problems: list[FedcompError] = []
    manifest = bench.session.manifest
    for step in (None, COARSE):  # of what is no weight, only if nothing fits otherwise
        if any(trial.packet_bytes <= budget for trial in found):
            break
        for line in lines(name, bench.change, manifest):
            given = line if step is None else line.with_fixed(fine_step=step)
            try:
                base = make(given.settings(0))
                if misfits := base.misfits(manifest):
                    raise ConfigError(misfits)
                found += tried(given, base, bench, budget)
            except (ConfigError, CodecError) as error:
                problems.append(error)
    if not found:
        raise problems[0]
    least = min(trial.packet_bytes for trial in found)
    fits = least <= budget
    chosen = [trial for trial in found if trial.packet_bytes == least]
    if fits:
        chosen = [min(found, key=lambda trial: (trial.error, trial.packet_bytes))]
    answers = (Answer(name, it.settings, bench.measured(it.codec), fits) for it in chosen)
    return min(answers, key=lambda answer: answer.measured.error)


def tried(line: Line, base: Codec, bench: Bench, budget: int) -> list[Trial]:
    """Return what was tried of a line: its best packet that fits among it, or its smallest."""
    found: dict[int, Trial] = {}
    problems: list[CodecError] = []

    def error(at: int) -> float:
        """Return what is lost at a place; infinity where it does not fit."""
        if at not in found:
            settings = line.settings(at)
            codec = replace(base, **settings)  # type: ignore[arg-type]
            try:
                length, symbols = bench.tried(codec)
            except CodecError as problem:  # a step too small for the levels that it gives
                problems.append(problem)
                return math.inf
            lost = bench.error(codec, symbols) if length <= budget else math.inf
            found[at] = Trial(settings, codec, length, lost)
        return found[at].error

    if line.ordered:
        last_fitting(len(line.values), lambda at: error(at) < math.inf)
        fitting = sorted(at for at, trial in found.items() if trial.error < math.inf)
        if fitting and (best := min(fitting, key=error)) < fitting[-1]:
            place = fitting.index(best)
            lowest([-1, *fitting][place] + 1, fitting[place + 1], error)
    else:
        for at in range(len(line.values)):
            error(at)
    if not found:
        raise problems[0]
    return list(found.values())


def last_fitting(count: int, fits: Callable[[int], bool]) -> int | None:
    """Return the last of so many places that fits, None if there is none; the first ones fit.

    Where none fits the first place was tried, and where all do the last one.

    Examples
    --------
    >>> tried = []
    >>> last_fitting(100, lambda at: tried.append(at) or at < 30), len(tried)
    (29, 7)
    """
    low, high = -1, count
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low if low >= 0 else None


def lowest(low: int, high: int, error: Callable[[int], float]) -> int:
    """Return the place of the least error from `low` to `high`, which falls and then rises.

    Examples
    --------
    >>> lowest(0, 1000, lambda at: (at - 237) ** 2)
    237
    """
    while low < high:
        middle = (low + high) // 2
        if error(middle) <= error(middle + 1):
            high = middle
        else:
            low = middle + 1
    return low


def in_order(answers: list[Answer]) -> list[Answer]:
    """Return the answers in order: those that fit by error, then the others by size."""

    def key(answer: Answer) -> tuple[bool, float, float]:
        error, size = answer.measured.error, answer.measured.packet_bytes
        return (False, error, size) if answer.fits else (True, size, error)

    return sorted(answers, key=key)


def undominated(answers: list[Answer]) -> list[Answer]:
    """Return the answers to which no other is equal in size and error, or better; smallest first.

    Of equal ones the first counts.
    """
    front: list[Answer] = []
    for answer in sorted(answers, key=lambda a: (a.measured.packet_bytes, a.measured.error)):
        if not front or answer.measured.error < front[-1].measured.error:
            front.append(answer)
    return front
