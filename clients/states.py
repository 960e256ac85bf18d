"""Where a node of a deployment keeps its states, and how long."""

from __future__ import annotations

import logging
import re
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fedcomp.link.file_store import FileStateStore

if TYPE_CHECKING:
    from pathlib import Path

KEPT_DAYS = 30
"""A run that was not heard of for longer will not be resumed."""

_RUN = re.compile(r"[0-9a-f]{16}")

log = logging.getLogger(__name__)


def open_states(folder: Path, run_id: str) -> FileStateStore:
    """Return the states of a run."""
    return FileStateStore(folder / run_id)


def forget_old(folder: Path, now: float | None = None) -> None:
    """Remove the states of runs that ended long ago: no node is told when a run has ended."""
    oldest = (time.time() if now is None else now) - KEPT_DAYS * 86400
    for run in folder.iterdir():
        if not _RUN.fullmatch(run.name):
            continue
        with suppress(OSError):  # another node's, or being removed by one: never a reason to fail
            if not all((run / name).is_dir() for name in ("sites", "models")):
                continue
            changed = [path.stat().st_mtime for path in (run, *run.glob("sites/*/state.json"))]
            if max(changed) < oldest:
                log.info("the state in %s is older than %d days and is removed", run, KEPT_DAYS)
                shutil.rmtree(run, ignore_errors=True)
