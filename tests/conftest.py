"""Which tests run by default."""

from __future__ import annotations

import os

import pytest

PROCESSES = "processes"
"""The group of tests that start so many processes that no two of them had better run at once.

They take longest, and begin first.
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless `-m` names it; where CI is set, what takes most."""
    asked = config.option.markexpr
    unasked = {"soak"} if os.environ.get("CI") else {"deploy", "soak"}
    names = {name for name in unasked if name not in asked}
    left_out = [item for item in items if names & {mark.name for mark in item.iter_markers()}]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items:  # with several workers a file stays with one
        if not list(item.iter_markers("xdist_group")):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
    items.sort(key=lambda item: item.get_closest_marker("xdist_group").args[0] != PROCESSES)
