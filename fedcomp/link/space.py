"""The space on disk that clients' states may take, asked for before a run starts."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.link.session import Session


def check_space(folder: Path, session: Session, clients: int, rounds: int, copies: int = 1) -> None:
    """Refuse a run whose clients' states may not fit on the disk: a version and feedback each.

    Parameters
    ----------
    copies
        How many states of a client there are at a time, those in checkpoints included.
    """
    model = sum(s.size * np.dtype(s.dtype).itemsize for s in session.manifest.specs)
    half = session.link.feedback_dtype == "float16"
    needed = min(copies * clients, rounds + 1) * model
    if session.feedback:
        needed += copies * clients * (model + (model // 2 if half else model))
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        msg = (
            f"the states of {clients} clients may take {needed / 1e9:.1f} GB and {folder} has"
            f" {free / 1e9:.1f} GB free: choose another disk with hydra.run.dir, fewer clients,"
            " link.feedback_dtype=float16, link.feedback=false or checkpoint_every=0"
        )
        raise ConfigError(msg)
