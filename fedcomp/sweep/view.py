"""The view of a sweep: a live line for each job, where several run and there is a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable


class View:
    """Prints what happens; lines that last stand above those that change.

    Parameters
    ----------
    live
        Whether the terminal is this view's: a job that runs alone prints by itself.
    """

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._lines: list[str] = []
        self.is_live = live and console.is_terminal

    def __enter__(self) -> Self:
        if self.is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()  # before what a job prints

    def show(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Show how far each job is: its title, and what it has printed last."""
        if not self.is_live:
            return
        lines = [f"{title}  {said}" for title, said in jobs]
        if lines != self._lines:
            self._lines = lines
            self._live.update(
                Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines)),
                refresh=True,
            )
