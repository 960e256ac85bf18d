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
    words += {"natural": ["partition=iid"], "dirichlet": ["partition.min_samples=1"]}.get(
        config["partition"]["name"], []
    )
    run = run_inline(tmp_path, *words, quick=FAST)
    assert read_summary(run)["rounds"] == 1


def test_every_method_has_an_experiment() -> None:
    files = (config_dir() / "experiment").glob("*.yaml")
    found = {line.rpartition(" ")[2] for file in files for line in _method_lines(file)}
    assert found == set(group_choices()["method"])


def _method_lines(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("  - override /method: ")]


@pytest.mark.parametrize("method", ["fedcomp", "feddip", "fsfl", "stc"])
def test_the_command_line_chooses_the_method_of_a_common_field(method: str) -> None:
    alone = compose_config([f"method={method}"])
    fields = {"comparison_digits": [0.9, 0.95], "headline": [0.4]}
    for field, targets in fields.items():
        for words in ([], ["seed=1"]):
            found = compose_config([f"method={method}", *words, f"experiment={field}"])
            for key in ("method", "recipe", "server_step", "strategy", "uplink", "downlink"):
                assert found[key] == alone[key]
            assert found["targets"] == targets
