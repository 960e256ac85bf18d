from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch import nn

import clients.local as local
import fedcomp.training.scale_training as scale_training
from clients.deepcabac import DeepCabac
from clients.fsfl import Fsfl
from clients.local import LocalTraining
from fedcomp.config import compose_config
from fedcomp.data.base import Samples
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


@pytest.mark.parametrize(("gain", "accepted"), [(0.0, 1.0), (100.0, 0.0)])
def test_scales_travel_if_they_are_accepted(
    gain: float, accepted: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensors] = []
    original = Setup.export

    def spy(self: Setup, model: Tensors) -> Tensors:
        seen.append(model)
        return original(self, model)

    monkeypatch.setattr(Setup, "export", spy)
    words = ("method=fsfl", "recipe.scales.lr=0.05", "train.steps=20")
    run = run_inline(tmp_path, *words, f"recipe.scales.min_gain={gain}")
    rows = read_csv(run / "rounds.csv")[1:]
    assert [float(row["scales_accepted"]) for row in rows] == [accepted] * 2
    specs = Setup(parse(compose_config([*QUICK, "method=fsfl"]))).manifest.specs
    kinds = [spec.kind for spec in specs]
    assert kinds.count(Kind.SCALE) == kinds.count(Kind.WEIGHT) == 2
    for name in (spec.name for spec in specs if spec.kind is Kind.SCALE):
        assert (seen[0][name] != 1).any() == bool(accepted)


def test_the_round_is_that_of_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W with S frozen, then what is lost of it, then S on the lossy W, judged on samples apart."""
    works: list[Work] = []
    lossy: list[Tensors] = []
    quantise, train, fit = ClientLink.quantise, scale_training.train_scales, Fsfl.fit

    def quantised(link: ClientLink, tensors: Tensors) -> Any:
        symbols, seen = quantise(link, tensors)
        if {link.session.manifest.by_name[name].kind for name in tensors} != {Kind.SCALE}:
            lossy.append(seen)
        return symbols, seen

    def trained(module: nn.Module, samples: Samples, validation: Samples, **kw: Any) -> Any:
        work = works[-1]
        assert len(lossy) == len(works)
        for name, parameter in module.named_parameters():
            expected = lossy[-1].get(name, work.link.received[name])  # S is as it was received
            assert np.array_equal(parameter.detach().numpy(), expected), name
        assert (samples, validation) == (work.train, work.validation)
        return train(module, samples, validation, **kw)

    def fitted(self: Fsfl, work: Work) -> Answer:
        works.append(work)
        answer = fit(self, work)
        assert isinstance(answer.tensors, Update)
        specs = work.link.session.manifest.by_name
        assert answer.tensors.symbols.keys() == answer.tensors.target.keys() == specs.keys()
        assert any((lossy[-1][n] != answer.tensors.target[n]).any() for n in lossy[-1])
        return answer

    monkeypatch.setattr(ClientLink, "quantise", quantised)
    monkeypatch.setattr(scale_training, "train_scales", trained)
    monkeypatch.setattr(Fsfl, "fit", fitted)
    run_inline(tmp_path, "method=fsfl", "recipe.scales.lr=0.05", "train.steps=20")
    assert len(works) == 2 * 4


@pytest.mark.parametrize("recipe", ["fsfl", "deepcabac", "local"])
def test_what_a_recipe_trained_is_sent_or_kept(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained − received + old residual = what the server sees + new residual, by tensor."""
    seen = 0

    def replied(self: ClientLink, update: Update, note: str = "") -> bytes:
        nonlocal seen
        manifest = self.session.manifest
        trained = _trained[self.site]
        old = dict(self.residual)
        blob = reply(self, update, note)
        decoded = self.session.uplink.reconstruct(update.symbols, self._context())
        new = self._stored().residual.tensors
        for name in (spec.name for spec in manifest.specs if spec.name in trained):
            whole = trained[name] - self.received[name] + old.get(name, np.float32(0))
            assert decoded[name] + new[name] == pytest.approx(whole, abs=1e-6), name
            seen += int(np.count_nonzero(new[name]) > 0)
        return blob

    def fitted(self: Any, work: Work) -> Answer:
        answer = fit(self, work)
        kinds = work.link.session.manifest.by_name
        now = {n: v for n, v in work.tensors().items() if kinds[n].kind is Kind.SCALE}
        made = answer.tensors.target if isinstance(answer.tensors, Update) else answer.tensors
        _trained[str(work.client)] = {**{n: v for n, v in after_w[-1].items() if n not in now}}
        assert made.keys() == kinds.keys()
        return answer

    def locally(work: Work, *arguments: Any) -> float:
        loss = train(work, *arguments)
        after_w.append(work.tensors())
        return loss

    after_w: list[Tensors] = []
    _trained: dict[str, Tensors] = {}
    reply, train = ClientLink.reply, local.train_locally
    kind = {"fsfl": Fsfl, "deepcabac": DeepCabac, "local": LocalTraining}[recipe]
    fit = kind.fit
    monkeypatch.setattr(ClientLink, "reply", replied)
    monkeypatch.setattr(local, "train_locally", locally)
    monkeypatch.setattr(kind, "fit", fitted)
    words = ("method=fsfl", f"recipe={recipe}", "train.steps=20", "recipe.scales.lr=0.05")
    run_inline(tmp_path, *words[: 4 if recipe == "fsfl" else 3])
    assert seen > 8


@pytest.mark.parametrize("parameters", ["head", "scale", "last_1"])
def test_a_part_of_the_model_may_be_trained(parameters: str, tmp_path: Path) -> None:
    run = run_inline(tmp_path, "method=fsfl", f"train.parameters={parameters}", "link.verify=true")
    last = read_csv(run / "rounds.csv")[-1]
    assert last["scales_accepted"] != ""
    assert float(last["train_loss"]) > 1  # of ten classes, hardly trained


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
