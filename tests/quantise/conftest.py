"""Nets that know their digits, ready to be quantised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fedcomp.config import compose_config
from fedcomp.models.base import read_tensors
from fedcomp.quantise.case import Case, load_case
from fedcomp.quantise.job import run
from fedcomp.quantise.settings import QuantiseSettings
from fedcomp.settings import parse
from fedcomp.training.loop import train

WORDS = {
    "mlp": ("model=mlp", "model.hidden=[64]", "train.epochs=6"),
    "small_cnn": ("model=small_cnn", "model.width=8", "model.hidden=32", "train.epochs=4"),
    "resnet20": ("model=resnet20", "train.steps=3"),
}

CONFIGS = {name: compose_config([*words, "train.device=cpu"]) for name, words in WORDS.items()}

Run = Callable[..., dict[str, Any]]
Cases = Callable[..., Case]


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Return what trains a net, once, and holds back a share of its samples."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def case(name: str, validation: float = 0.2) -> Case:
        settings, file = parse(CONFIGS[name]), folder / f"{name}.safetensors"
        if not file.is_file():
            data = settings.dataset.open(Path("data"))
            module = settings.model.seeded(data.input_shape, data.classes, 1)
            given, rng = (module, data.train, settings.train), np.random.default_rng(1)
            train(*given, task=data.task, lr=0.05, proximal_mu=0.0, rng=rng)
            save_file(read_tensors(module), file)
        return load_case(QuantiseSettings(str(file), validation=validation), settings)

    return case


@pytest.fixture(scope="session")
def checkpoint(cases: Cases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the trained mlp."""
    file = tmp_path_factory.mktemp("mlp") / "mlp.safetensors"
    save_file(cases("mlp").model, file)
    return file


@pytest.fixture
def quantise(cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what does all but read words, in an empty folder, and returns the figures."""
    monkeypatch.chdir(tmp_path)

    def quantised(name: str, out: str, **settings: Any) -> dict[str, Any]:
        given = QuantiseSettings(name, **settings)
        return run(cases(name), given, CONFIGS[name], Path(out), lambda line: None)

    return quantised
