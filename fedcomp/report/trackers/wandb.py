"""Weights & Biases, on its servers, one's own, or in files that `wandb sync` sends later."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedcomp.report.trackers.base import TrackedRun, Tracker, TrackerSettings
from fedcomp.storage import save_text

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Wandb(TrackerSettings):
    """Tell Weights & Biases; server and key are those that `wandb login` has stored.

    Parameters
    ----------
    project, entity
        Where the run goes; by default to the user's own entity.
    mode
        `offline` writes files in the run folder, `disabled` does nothing.
    """

    name: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"

    project: str = "fedcomp"
    entity: str | None = None
    mode: Literal["online", "offline", "disabled"] = "online"

    def create(self) -> Tracker:
        """Return the tracker."""
        return _Run(self)


class _Run(Tracker):
    def __init__(self, settings: Wandb) -> None:
        self._settings = settings

    def start(self, run: TrackedRun) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        chosen = self._settings
        # Silent before all else: nobody is to be asked for a key in the middle of a run.
        quiet = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True)
        wandb.setup(quiet)
        (run.folder / "wandb").mkdir(exist_ok=True)
        # A run takes a round once; offline nobody but this file knows which it has.
        self._note = run.folder / "wandb" / "last-round.txt"
        self._last = int(self._note.read_text()) if self._note.exists() else -1
        self._run = wandb.init(
            project=chosen.project,
            entity=chosen.entity,
            mode=chosen.mode,
            id=run.run_id,
            # Files cannot go on with a run; sent one after the other they make one all the same.
            resume=None if chosen.mode == "offline" else "allow",
            name=run.name,
            dir=str(run.folder),
            config=dict(run.config),
            settings=quiet,
        )

    def log(self, round_number: int, values: Mapping[str, float]) -> None:
        if round_number > self._last:
            self._run.log(dict(values), step=round_number)
            save_text(str(round_number), self._note)

    def end(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))
        self._run.finish(0 if summary.get("status") == "finished" else 1)
