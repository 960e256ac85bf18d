"""What commands share: the words they are given, what they print on, how they end."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from threading import enumerate as threads
from threading import main_thread
from typing import TYPE_CHECKING, NoReturn

from fedcomp.errors import ConfigError, FedcompError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def key_of(word: str) -> str:
    """Return what a word of the command line sets.

    Examples
    --------
    >>> key_of("+strategy.x=1"), key_of("codec@uplink=qsgd"), key_of("~train")
    ('strategy.x', 'codec@uplink', 'train')
    """
    return word.partition("=")[0].lstrip("+~")


def wide_console() -> Console:
    """Return what tables are printed on: as wide as a terminal, and wide enough elsewhere."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200)


def code_of(
    name: str,
    work: Callable[[], int | None],
    usage: tuple[type[FedcompError], ...] = (ConfigError,),
) -> int:
    """Do a command's work, say what went wrong, and return the exit code.

    Parameters
    ----------
    usage
        Errors that are the user's: wrong arguments.
    """
    try:
        return work() or 0
    except usage as error:
        for problem in getattr(error, "problems", [str(error)]):
            print(f"{name}: {problem}", file=sys.stderr)
        return EXIT_USAGE
    except (FedcompError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        with suppress(OSError):
            print("interrupted")
        return EXIT_INTERRUPTED


def leave(code: int) -> NoReturn:
    """Exit, at once after an interruption or where Flower left threads that wait for hours."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    others = (thread for thread in threads() if thread is not main_thread())
    if code == EXIT_INTERRUPTED or not all(thread.daemon for thread in others):
        os._exit(code)
    sys.exit(code)
