from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedcomp.storage import Table, save_tensors, save_text


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let this process write no more to any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_table_ends_with_a_whole_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    table = Table(path)
    table.add(("a", "b"))
    table.add((1, "é"), (2, 'a "text", quoted'))
    with files_of_at_most(100):
        for rows in (100 * [("xxx",)], [("yyy", 200 * "y")]):
            with pytest.raises(OSError, match="too large"):
                table.add(*rows)
    assert path.read_text(encoding="utf-8") == 'a,b\n1,é\n2,"a ""text"", quoted"\n'
    table.add(("last",))  # there is room again
    table.close()
    assert path.read_text(encoding="utf-8").endswith('quoted"\nlast\n')


def test_files_are_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    text, tensors = tmp_path / "text", tmp_path / "tensors"
    save_text("old", text)
    save_tensors({"w": np.ones(3, np.float32)}, tensors)
    with files_of_at_most(1000):
        with pytest.raises(OSError, match="too large"):
            save_text(10_000 * "x", text)
        with pytest.raises(Exception, match="too large"):
            save_tensors({"w": np.zeros(10_000, np.float32)}, tensors)
    assert text.read_text() == "old"
    assert load_file(tensors)["w"].tolist() == [1, 1, 1]
    assert len(list(tmp_path.iterdir())) == 2
