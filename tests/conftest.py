"""Which tests run by default."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, but where CI is set or `-m` asks for a marker."""
    if os.environ.get("CI") or config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("deploy")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
