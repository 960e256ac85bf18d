"""The view of a run while it runs: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from fedcomp.report.observer import Observer
from fedcomp.report.units import duration, megabytes

if TYPE_CHECKING:
    from rich.console import Console

    from fedcomp.report.observer import RoundResult, RunStart
    from fedcomp.settings import Settings


class Progress(Observer):
    """Shows round, the metric, loss, MB up and down, and the time left."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._live: Live | None = None
        self._began = time.perf_counter()

    def __enter__(self) -> Self:
        title = f"{self._settings.method.name} on {self._settings.dataset.name}"
        if self._console.is_terminal:
            waiting = Text(f"{title}: starting {self._settings.clients} clients …")
            self._live = Live(waiting, console=self._console, refresh_per_second=4)
            self._live.start(refresh=True)
        else:
            self._console.print(title)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def on_start(self, start: RunStart) -> None:
        """Keep what is known of the run."""
        self._start = start
        if start.resumed:
            self._console.print(f"goes on after round {start.resumed}")

    def on_round(self, result: RoundResult) -> None:
        """Show the state after a round."""
        line = self._line(result)
        if self._live is None:
            self._console.print(line, soft_wrap=True, highlight=False)
            return
        bar = ProgressBar(total=self._settings.rounds, completed=result.round, width=60)
        self._live.update(Group(Text(line, no_wrap=True, overflow="ellipsis"), bar))

    def _line(self, result: RoundResult) -> str:
        rounds, ledger = self._settings.rounds, self._start.ledger
        first = self._start.resumed + 1  # it holds the start of all workers and says little
        if result.round <= first:
            self._began = time.perf_counter()
        done = result.round - first
        spent = time.perf_counter() - self._began
        left = duration(spent / done * (rounds - result.round)) if done > 0 else "…"
        cells = [
            f"round {result.round}/{rounds}",
            f"{self._start.metric} {result.metrics[self._start.metric]:.4f}",
            f"loss {result.metrics['loss']:.3f}",
            f"up {megabytes(ledger.uplink_bytes)}",
            f"down {megabytes(ledger.downlink_bytes)}",
            f"left {left}",
        ]
        if result.failures:
            cells.append(f"failed {result.failures}")
        return "  ".join(cells)
