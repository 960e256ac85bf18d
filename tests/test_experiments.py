"""Every experiment that ships composes and runs, cut down to seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedcomp.config import compose_config, config_dir, group_choices
from tests.common import read_summary, run_inline
from tests.data.small_images import write_cifar10, write_idx
from tests.data.test_folder import xrays
from tests.data.test_speech import digits
from tests.data.test_voc import write_voc

FAST = ("engine=inline", "clients=4", "rounds=1", "train.steps=1", "dataset.validation=0")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with tiny copies of the sets that experiments ask for."""
    folder = tmp_path_factory.mktemp("data")
    write_cifar10(folder)
    write_idx(folder, "FashionMNIST")
    xrays(folder)
    write_voc(folder)
    digits(folder / "fsdd")
    return folder


@pytest.mark.parametrize("name", group_choices()["experiment"])
def test_experiment(name: str, data: Path, tmp_path: Path) -> None:
    text = (config_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.splitlines()[1].startswith(f"# fedcomp experiment={name}")
    words = [f"experiment={name}", f"data_dir={data}"]
    config = compose_config([*FAST, *words])
    words += ["dataset.verify=false"] if "verify" in config["dataset"] else []
    words += ["partition=iid"] if config["partition"]["name"] == "natural" else []
    run = run_inline(tmp_path, *words, quick=FAST)
    assert read_summary(run)["rounds"] == 1
