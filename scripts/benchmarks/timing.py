"""Seconds of ours and of a peer, in turns, after calls of each that are not counted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numba.core.event import install_recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPEATS = 7
_TURN_SECONDS, _MOST_CALLS = 0.1, 50
"""Of short calls a turn has several, of each program as many, and the least of them counts: on a
shared machine the median of seven calls of 5 ms each differed by half from moment to moment."""


def in_turns(*calls: Callable[[], float] | None, repeats: int = REPEATS) -> tuple[list[float], ...]:
    """Return the seconds of each turn as calls tell them; nothing may be compiled meanwhile.

    The slowest call fills a turn of its own.  A peer that is not there is None and has no turns.
    """
    there = [call for call in calls if call]
    for call in there:
        call()
    with _nothing_compiled():
        slowest = max(call() for call in there)
        many = max(1, int(_TURN_SECONDS / max(slowest, _TURN_SECONDS / _MOST_CALLS)))
        turns = [[min(call() for _ in range(many)) for call in there] for _ in range(repeats)]
    columns = iter(zip(*turns, strict=True))
    return tuple(list(next(columns)) if call else [] for call in calls)


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    """Return a call that does the work and returns its seconds."""

    def seconds() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return seconds


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    with install_recorder("numba:compile") as recorder:
        yield
    if recorder.buffer:
        msg = "numba compiled within a timed region; the first run should have done so"
        raise RuntimeError(msg)
