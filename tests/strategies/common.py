"""Runs in this process on a grid that misbehaves, and what they leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedcomp.engines.inline as inline
from tests.common import read_csv, run_inline

Row = dict[str, str]


def run_on(
    folder: Path, misbehave: Callable[[Any], None], *words: str, observers: Any = ()
) -> tuple[Path, list[Row]]:
    """Run a job on a grid that is changed first; return its folder and its packets."""
    make = inline._grid

    def changed(*arguments: Any) -> Any:
        grid = make(*arguments)
        misbehave(grid)
        return grid

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inline, "_grid", changed)
        run_inline(folder, *words, observers=observers)
    return folder, read_csv(folder / "packets.csv")


def kinds(rows: list[Row], client: int, number: int) -> list[tuple[str, str]]:
    """Return direction and kind of what a client sent and got in a round."""
    mine = (str(client), str(number))
    return [(r["direction"], r["kind"]) for r in rows if (r["client"], r["round"]) == mine]


def rounds(folder: Path) -> list[tuple[int, int]]:
    """Return clients and failures of each round."""
    return [(int(r["clients"]), int(r["failures"])) for r in read_csv(folder / "rounds.csv")][1:]


def site_of(message: Any) -> int:
    """Return the site that a message of the inline engine goes to or comes from."""
    meta = message.metadata
    return int(max(meta.dst_node_id, meta.src_node_id)) - 1000
