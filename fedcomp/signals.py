"""Signals that would end this process, for as long as something else has to end first."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Event
    from types import FrameType

    from fedcomp.runtime import Hooks

_REMOTE = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
"""What else ends a process at once, which would leave a run elsewhere alone."""


@contextmanager
def interrupting(hooks: Hooks, *, remote: bool = False) -> Iterator[None]:
    """Let Ctrl-C also set `hooks.stop`.

    Raised in a destructor or in the callback of a weak reference, an exception is printed and goes
    nowhere, and within an import it may abort the process: C++ code that makes a module does not
    expect it.  There the run ends when it looks at `hooks.stop` next.

    Parameters
    ----------
    remote
        Whether SIGTERM and SIGHUP, as when a terminal is closed, do what Ctrl-C does.
    """

    def interrupt(_: int, frame: FrameType | None) -> None:
        hooks.stop.set()
        while frame is not None:
            code = frame.f_code
            if code.co_name in ("__del__", "remove", "_remove") or "importlib" in code.co_filename:
                return
            frame = frame.f_back
        raise KeyboardInterrupt

    usual = {signal.SIGINT: signal.default_int_handler, **(_REMOTE if remote else {})}
    before = {number: signal.getsignal(number) for number in usual}
    taken = [number for number in usual if before[number] == usual[number]]  # nohup ignores one
    if current_thread() is not main_thread():
        taken = []
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            if signal.getsignal(number) is interrupt:  # an engine may ignore further ones
                signal.signal(number, before[number])


@contextmanager
def held_back(stop: Event) -> Iterator[None]:
    """Let what would end this process set `stop` and do nothing else."""
    numbers = (signal.SIGINT, *_REMOTE) if current_thread() is main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    taken = {n: usual for n, usual in before.items() if usual not in (signal.SIG_IGN, None)}
    for number in taken:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, usual in taken.items():
            signal.signal(number, usual)
