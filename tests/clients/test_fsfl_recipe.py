from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedcomp.config import compose_config
from fedcomp.models.base import load_tensors
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Kind
from fedcomp.training.loop import evaluate
from tests.common import QUICK, read_csv, run_inline


@pytest.mark.parametrize(
    "words", [(), ("codec@downlink=none",), ("train.parameters=head",), ("train.parameters=bias",)]
)
def test_a_run_leaves_a_plain_model(words: tuple[str, ...], tmp_path: Path) -> None:
    words = ("method=fsfl", "recipe.scales.lr=0.05", "train.steps=20", *words)
    run = run_inline(tmp_path, *words, "link.verify=true")
    plain = Setup(parse(compose_config([*QUICK, "train.device=cpu"])))
    saved = load_file(run / "model.safetensors")
    assert saved.keys() == plain.module.state_dict().keys()
    load_tensors(plain.module, saved)
    test = plain.dataset.test
    found = evaluate(plain.module, test, plain.settings.train, task="classification")
    last = read_csv(run / "rounds.csv")[-1]
    assert found["accuracy"] == pytest.approx(float(last["accuracy"]), abs=0.003)
    assert found["loss"] == pytest.approx(float(last["loss"]), rel=1e-3)


def test_scales_travel_and_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(parse(compose_config([*QUICK, "method=fsfl"])))
    kinds = [spec.kind for spec in setup.manifest.specs]
    assert kinds.count(Kind.SCALE) == kinds.count(Kind.WEIGHT) == 2
    seen: list[dict[str, np.ndarray]] = []  # type: ignore[type-arg]
    original = Setup.export

    def spy(self: Setup, model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        seen.append(model)
        return original(self, model)

    monkeypatch.setattr(Setup, "export", spy)
    run_inline(tmp_path, "method=fsfl", "recipe.scales.lr=0.05", "train.steps=20")
    names = [spec.name for spec in setup.manifest.specs if spec.kind is Kind.SCALE]
    assert all((seen[0][name] != 1).any() for name in names)
