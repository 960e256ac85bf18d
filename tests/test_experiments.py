"""Every experiment that ships composes and runs, cut down to seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedcomp.config import config_dir, group_choices
from tests.common import read_summary, run_inline

FAST = ("engine=inline", "clients=4", "rounds=1", "train.steps=1")


@pytest.mark.parametrize("name", group_choices()["experiment"])
def test_experiment(name: str, tmp_path: Path) -> None:
    text = (config_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.splitlines()[1] == f"# fedcomp experiment={name}"
    run = run_inline(tmp_path, f"experiment={name}", quick=FAST)
    assert read_summary(run)["rounds"] == 1
