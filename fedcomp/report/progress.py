"""The view of a run while it runs: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fedcomp.report.observer import RoundResult, RunStart
    from fedcomp.settings import Settings
    from fedcomp.tensors import Tensors


class Progress:
    """Shows round, the metric, loss, MB up and down, and the time left."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._live: Live | None = None
        self._began = time.perf_counter()

    def on_start(self, start: RunStart) -> None:
        """Show the empty view."""
        self._start = start
        if self._console.is_terminal:
            self._live = Live(Text("starting …"), console=self._console, refresh_per_second=4)
            self._live.start()

    def on_round(self, result: RoundResult) -> None:
        """Show the state after a round."""
        cells = self._cells(result)
        if self._live is not None:
            self._live.update(self._view(result, cells))
        else:
            line = "  ".join(f"{name} {value}" for name, value in cells.items())
            self._console.print(line, soft_wrap=True, highlight=False)

    def on_end(self, model: Tensors) -> None:  # noqa: ARG002
        """Leave the last state standing."""
        if self._live is not None:
            self._live.stop()

    def _cells(self, result: RoundResult) -> dict[str, str]:
        rounds, ledger = self._settings.rounds, self._start.ledger
        if result.round <= 1:  # round 1 holds the start of all workers and says little
            self._began = time.perf_counter()
        spent = time.perf_counter() - self._began
        done = result.round - 1
        left = spent / done * (rounds - result.round) if done > 0 else None
        return {
            "round": f"{result.round}/{rounds}",
            self._start.metric: f"{result.metrics[self._start.metric]:.4f}",
            "loss": f"{result.metrics['loss']:.4f}",
            "up": megabytes(ledger.uplink_bytes),
            "down": megabytes(ledger.downlink_bytes),
            "left": "…" if left is None else duration(left),
            **({"failed": str(result.failures)} if result.failures else {}),
        }

    def _view(self, result: RoundResult, cells: dict[str, str]) -> Group:
        table = Table.grid(padding=(0, 2))
        for name in cells:
            table.add_column(name)
        table.add_row(*(Text.assemble((f"{name} ", "dim"), text) for name, text in cells.items()))
        bar = ProgressBar(total=self._settings.rounds, completed=result.round, width=60)
        return Group(table, bar)


def megabytes(count: int) -> str:
    """Return a byte count for people.

    Examples
    --------
    >>> megabytes(1_234_567), megabytes(480)
    ('1.235 MB', '480 B')
    """
    return f"{count} B" if count < 1000 else f"{count / 1e6:.3f} MB"


def duration(seconds: float) -> str:
    """Return a time span for people.

    Examples
    --------
    >>> duration(7.26), duration(75), duration(3700)
    ('7.3 s', '1:15', '1:01:40')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
