"""Seconds of ours and of a peer, in turns: the first call of each is not counted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numba.core.event import install_recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPEATS = 7
_TURN_SECONDS = 0.05
"""Of calls that are shorter a turn has several, and the least of them counts: on a shared machine
the median of seven calls of 5 ms each was found to differ by half from one moment to the next."""


def in_turns(
    own: Callable[[], float], other: Callable[[], float] | None = None, repeats: int = REPEATS
) -> tuple[list[float], list[float]]:
    """Return the seconds of each turn as calls tell them; nothing may be compiled meanwhile."""
    own()
    if other:
        other()
    mine, theirs = [], []
    with _nothing_compiled():
        for _ in range(repeats):
            mine.append(_turn(own))
            if other:
                theirs.append(_turn(other))
    return mine, theirs


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    """Return a call that does the work and returns its seconds."""

    def seconds() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return seconds


def _turn(call: Callable[[], float]) -> float:
    """Return the least seconds of one call, or of as many as fill a turn."""
    least = spent = call()
    while spent < _TURN_SECONDS:
        seconds = call()
        least, spent = min(least, seconds), spent + seconds
    return least


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    with install_recorder("numba:compile") as recorder:
        yield
    if recorder.buffer:
        msg = "numba compiled within a timed region; the first run should have done so"
        raise RuntimeError(msg)
