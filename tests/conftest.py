"""Which tests run by default."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless `-m` names it; where CI is set, what takes most."""
    asked = config.option.markexpr
    unasked = {"soak"} if os.environ.get("CI") else {"deploy", "soak"}
    names = {name for name in unasked if name not in asked}
    left_out = [item for item in items if names & {mark.name for mark in item.iter_markers()}]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
