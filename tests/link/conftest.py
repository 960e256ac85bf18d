from __future__ import annotations

from pathlib import Path

import pytest

from fedcomp.link.file_store import FileStateStore
from fedcomp.link.stores import MemoryStateStore, StateStore


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    return FileStateStore(tmp_path) if request.param == "file" else MemoryStateStore()
