"""Which tests run by default, and which of them at the same time."""

from __future__ import annotations

import gc
import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

PROCESSES = {
    f"tests/engines/test_{name}.py"
    for name in (
        "deploy",
        "deploy_resume",
        "engines",
        "flower_failures",
        "ray_cluster",
        "superlink",
    )
}
"""Files whose tests start so many processes that no two of them had better run at once."""


@pytest.fixture(autouse=True, scope="module")
def _frozen() -> None:
    """Let collections pass over all that is there: Flower's Bulyan asks for one with each reply."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless `-m` names it; where CI is set, what takes most."""
    asked = config.option.markexpr
    unasked = {"soak"} if os.environ.get("CI") else {"deploy", "soak"}
    names = {name for name in unasked if name not in asked}
    left_out = [item for item in items if names & {mark.name for mark in item.iter_markers()}]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: _file(item.nodeid) not in PROCESSES)  # they take longest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Give each file to one worker, and all that start many processes to the same one."""
    return ByFile(config, log)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of a file stay together."""

    def _split_scope(self, nodeid: str) -> str:
        file = _file(nodeid)
        return "processes" if file in PROCESSES else file


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
