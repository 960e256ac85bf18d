"""A child process: one run of this project, its seconds a round and of its start.

Arguments: FOLDER [KEY=VALUE …], as on the command line of `fedcomp`.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

from fedcomp.cli import prepare
from fedcomp.config import compose_config
from fedcomp.engines.logs import logging_to
from fedcomp.report.observer import Observer
from fedcomp.runtime import Hooks
from fedcomp.settings import Job
from scripts.benchmarks.children import finish
from strategies import app
from strategies.handshake import meet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flwr.app import Message
    from flwr.serverapp import Grid

    from fedcomp.report.observer import RoundResult, RunStart


class Clock(Observer):
    """Notes when each round ended; the interval between two ends is a round with all its files."""

    def __init__(self) -> None:
        self.started = 0.0
        self._ends: list[float] = []

    def on_start(self, start: RunStart) -> None:  # noqa: ARG002
        """Note that all clients have been met."""
        self.started = time.perf_counter()

    def on_round(self, result: RoundResult) -> None:  # noqa: ARG002
        """Note the time."""
        self._ends.append(time.perf_counter())

    @property
    def rounds(self) -> list[float]:
        """Seconds of each round from the first on."""
        return [end - start for start, end in pairwise(self._ends)]


class FirstReply:
    """A grid that notes when the first reply came: until then Ray was starting its actors."""

    def __init__(self, inner: Grid) -> None:
        self._inner = inner
        self.at = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Pass on."""
        replies = list(self._inner.pull_messages(message_ids))
        if replies and not self.at:
            self.at = time.perf_counter()
        return replies


def main() -> None:
    folder, overrides = Path(sys.argv[1]), sys.argv[2:]
    config = compose_config(overrides)
    clock = Clock()
    grids: list[FirstReply] = []

    def watched_meet(grid: Grid, *others: Any) -> dict[int, str]:
        grids.append(FirstReply(grid))
        return meet(cast("Grid", grids[0]), *others)

    with patch.object(app, "meet", watched_meet), logging_to(folder / "run.log", verbose=False):
        setup = prepare(config)
        job = Job(config, "benchmark", str(folder / "run"))
        job.settings.engine.run(job, setup, Hooks([clock]))
    finish(folder, {"rounds": clock.rounds, "handshake_seconds": clock.started - grids[0].at})


if __name__ == "__main__":
    main()
