from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch import nn

import fedcomp.training.scale_training as scale_training
from clients.fsfl import Fsfl
from fedcomp.config import compose_config
from fedcomp.link.client import ClientLink
from fedcomp.link.update import Update
from fedcomp.methods import Answer, Work
from fedcomp.models.base import load_tensors
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Kind, Tensors
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


def test_the_round_is_that_of_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W with S frozen, then what is lost of it, then S on the lossy W, then one update of both."""
    steps: list[str] = []
    lossy: dict[str, Tensors] = {}
    quantise, train = ClientLink.quantise, scale_training.train_scales

    def quantised(link: ClientLink, tensors: Tensors) -> Any:
        symbols, seen = quantise(link, tensors)
        kinds = {link.session.manifest.by_name[name].kind for name in tensors}
        steps.append("S" if kinds == {Kind.SCALE} else "W")
        assert (Kind.SCALE in kinds) == (steps[-1] == "S")
        lossy[link.site] = {**lossy.get(link.site, {}), **seen} if steps[-1] == "S" else seen
        lossy["received"] = dict(link.received)
        return symbols, seen

    def trained(module: nn.Module, *arguments: Any, **options: Any) -> bool:
        steps.append("train S")
        held = {**lossy[str(client[-1])]}
        for name, parameter in module.named_parameters():
            now = parameter.detach().numpy()
            expected = held.get(name, lossy["received"][name])  # S is as it was received
            assert np.array_equal(now, expected), name
        return train(module, *arguments, **options)

    client: list[int] = []
    fit = Fsfl.fit

    def fitted(self: Fsfl, work: Work) -> Answer:
        client.append(work.client)
        answer = fit(self, work)
        assert isinstance(answer.tensors, Update)
        assert answer.tensors.symbols.keys() == work.link.session.manifest.by_name.keys()
        return answer

    monkeypatch.setattr(ClientLink, "quantise", quantised)
    monkeypatch.setattr(scale_training, "train_scales", trained)
    monkeypatch.setattr(Fsfl, "fit", fitted)
    run_inline(tmp_path, "method=fsfl", "recipe.scales.lr=0.05", "train.steps=20")
    assert steps == ["W", "train S", "S"] * 2 * 4


@pytest.mark.parametrize(
    "words",
    [
        ("uplink.temporal=true",),
        ("uplink.quantiser=rate_distortion", "downlink.quantiser=rate_distortion"),
        ("uplink.quantiser=weighted", "downlink.quantiser=weighted"),
        ("uplink.quantiser=dependent", "uplink.step=0.004", "downlink.quantiser=dependent"),
        ("uplink.gain=0.9", "downlink.gain=0.9"),  # whole rows are zero, and skipped
        ("uplink.sparsity=threshold", "downlink.sparsity=target"),
        ("uplink.step=null", "uplink.bits=4", "downlink.step=null", "downlink.qp=-28"),
    ],
    ids=["temporal", "rate", "weighted", "dependent", "rows", "sparsity", "steps"],
)
def test_the_tools_of_nnc_work_in_the_method(words: tuple[str, ...], tmp_path: Path) -> None:
    words = ("method=fsfl", "train.steps=20", "rounds=3", "link.verify=true", *words)
    run = run_inline(tmp_path, *words)
    losses = [float(row["loss"]) for row in read_csv(run / "rounds.csv")]
    assert losses[-1] < losses[0] - 0.1
