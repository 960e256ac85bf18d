"""ECQ and ECQ^x as runs, on a small data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from safetensors.numpy import load_file

from clients.ecq import Ecq, layers
from fedcomp.codecs.grid import grid_for, step_of
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError
from fedcomp.link.update import Update
from fedcomp.methods import Answer, Work
from fedcomp.report.observer import RoundResult
from fedcomp.report.relevance import RelevancePicture
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Tensors
from fedcomp.training.quantised import Layer, QuantisedSteps
from tests.common import QUICK, equal, read_csv, read_summary, run_inline, spied
from tests.data.test_folder import folder_of

RUN = (*QUICK[1:], "rounds=4", "train.steps=6")
WEIGHTS = ("1.weight", "3.weight")
METHODS = ("ecq", "ecqx")


def target_of(answer: Answer) -> Tensors:
    assert isinstance(answer.tensors, Update)
    return answer.tensors.target


@pytest.mark.parametrize(("clients", "bits"), [(1, 2), (1, 4), (2, 4), (4, 2), (4, 4)])
@pytest.mark.parametrize("method", METHODS)
def test_every_transfer_has_levels_of_so_few_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, clients: int, bits: int
) -> None:
    seen = spied(monkeypatch, Ecq)
    words = (f"uplink.bits={bits}", f"downlink.bits={bits}", "link.verify=true")
    words += (f"clients={clients}",)
    run = run_inline(tmp_path, f"method={method}", *words, quick=RUN)
    for work, answer in seen:
        assert isinstance(answer.tensors, Update)
        for name in WEIGHTS:
            received = work.link.received[name]
            symbol = answer.tensors.symbols[name]
            if work.round > 1:
                step = step_of(received, bits)
                assert step > 0
                assert len(np.unique(received)) <= 2**bits
                assert symbol.step % step == 0, "clients share the step of the model that came"
            assert np.abs(symbol.levels).max() <= 2**bits
    model = load_file(run / "model.safetensors")
    for name in WEIGHTS:
        assert step_of(model[name], bits) > 0
        assert len(np.unique(model[name])) <= 2**bits
    summary = read_summary(run)
    assert (summary["failures"], summary["rounds"]) == (0, 4)
    zeros = [float(row["zeros"]) for row in read_csv(run / "rounds.csv")[1:]]
    assert 0 < min(zeros) <= max(zeros) < 1


@pytest.mark.parametrize("mode", ["absolute", "delta"])
def test_a_client_goes_on_where_its_background_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """One client: what it starts from is what it had, and what the server made of what it sent."""
    seen = spied(monkeypatch, Ecq)
    starts: list[Tensors] = []
    made = layers

    def noted(work: Work) -> object:
        starts.append(work.tensors())
        return made(work)

    monkeypatch.setattr("clients.ecq.layers", noted)
    words = ("method=ecq", "clients=1", f"uplink.mode={mode}")
    run_inline(tmp_path, *words, quick=RUN)
    assert len(starts) == len(seen) == 4
    for (before, answer), start, (after, _) in zip(seen[:-1], starts[1:], seen[1:], strict=True):
        assert isinstance(answer.tensors, Update)
        trained = target_of(answer)
        uplink, context = before.link.session.uplink, before.link.session.context
        models = before.link.received, before.link.site
        symbols = answer.tensors.symbols
        sent = uplink.reconstruct(symbols, context("uplink", before.round, *models))
        for name in WEIGHTS:
            base = before.link.received[name] if mode == "delta" else 0
            left = trained[name] - (sent[name] + base)
            assert np.abs(left).max() > 0
            expected = after.link.received[name] + left
            np.testing.assert_allclose(start[name], expected, atol=1e-6)


def test_without_feedback_there_is_no_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[tuple[Tensors, Tensors]] = []
    made = layers

    def noted(work: Work) -> object:
        starts.append((work.tensors(), dict(work.link.received)))
        return made(work)

    monkeypatch.setattr("clients.ecq.layers", noted)
    run_inline(tmp_path, "method=ecq", "link.feedback=false", quick=RUN)
    assert len(starts) == 16
    for start, received in starts:
        assert equal(start, received)


def test_relevant_weights_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same background more relevance is kept by about as many weights, never fewer."""
    shares: list[tuple[float, float]] = []
    gains: list[float] = []
    quantised = QuantisedSteps.quantised

    def noted(self: QuantisedSteps) -> Tensors:
        worth = {name: np.abs(self._relevances[name]) for name in WEIGHTS}
        chosen = quantised(self)
        monkeypatch.setattr(self, "_relevances", {})
        plain = quantised(self)
        for name in WEIGHTS:
            masks = plain[name] != 0, chosen[name] != 0
            shares.append((1 - float(masks[0].mean()), 1 - float(masks[1].mean())))
            kept = [float(worth[name][mask].sum()) for mask in masks]
            gains.append(kept[1] - kept[0])
        return chosen

    monkeypatch.setattr(QuantisedSteps, "quantised", noted)
    words = ("method=ecqx", "uplink.gamma=0.5", "recipe.intensity=0.2", "recipe.relevance.every=1")
    run_inline(tmp_path, *words, quick=RUN)
    assert len(shares) == 2 * 16
    for plain, found in shares:
        assert plain - 0.2 - 1e-3 <= found <= plain
    hidden, last = gains[::2], gains[1::2]
    assert min(hidden) > 0
    assert min(last) >= 0, "with fewer zeros than `intensity` nothing changes"


@pytest.mark.parametrize("up", ["topk", "none", "nnc"])
def test_another_codec_may_carry_what_is_trained(tmp_path: Path, up: str) -> None:
    words = ("method=ecqx", f"codec@uplink={up}", "codec@downlink=none", "rounds=1")
    run = run_inline(tmp_path, *words, quick=RUN)
    assert read_summary(run)["failures"] == 0


@pytest.mark.parametrize("down", ["codec@downlink=uniform", "downlink.mode=delta"])
def test_a_model_on_no_grid_gets_one_that_spans_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, down: str
) -> None:
    """The steps of a downlink of differences say nothing of the model."""
    seen: list[tuple[Tensors, dict[str, Layer]]] = []
    made = layers

    def noted(work: Work) -> dict[str, Layer]:
        seen.append((dict(work.link.received), made(work)))
        return seen[-1][1]

    monkeypatch.setattr("clients.ecq.layers", noted)
    run_inline(tmp_path, "method=ecq", down, quick=RUN)
    assert len(seen) == 16
    for received, found in seen:
        for name in WEIGHTS:
            assert found[name].grid.step == grid_for(received[name], 4, 0.999).step


def test_predictions_leave_the_run_as_it_is_and_spare_bytes(tmp_path: Path) -> None:
    found = []
    for predict in ("true", "false"):
        words = ("method=ecq", f"uplink.predict={predict}", f"downlink.predict={predict}")
        run = run_inline(tmp_path / predict, *words, quick=RUN)
        found.append((load_file(run / "model.safetensors"), read_summary(run)))
    (model, spared), (other, spent) = found
    assert equal(dict(model), dict(other))
    assert spared["total_bytes"] < 0.9 * spent["total_bytes"]


def test_a_run_without_weights_to_quantise(tmp_path: Path) -> None:
    run = run_inline(tmp_path, "method=ecq", "train.parameters=.*bias", "rounds=1", quick=RUN)
    assert read_summary(run)["failures"] == 0
    assert read_csv(run / "rounds.csv")[-1]["zeros"] == "0.0"
    assert not (run / "relevance.png").exists()


def test_different_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"uplink\.bits=2 downlink\.bits=4: .* both the same"):
        compose_and_parse("method=ecq", "uplink.bits=2")
    compose_and_parse("method=ecq", "uplink.bits=2", "uplink.mode=delta")
    compose_and_parse("recipe=local", "codec@uplink=ecq", "uplink.bits=2", "codec@downlink=ecq")


def compose_and_parse(*words: str) -> None:
    parse(compose_config(list(words)))


def test_pictures_of_images_that_come_in_several_batches(tmp_path: Path) -> None:
    folder_of(tmp_path / "pets")
    words = ("dataset=folder", "dataset.path=pets", f"data_dir={tmp_path}", "dataset.size=160")
    run = run_inline(tmp_path / "run", "method=ecqx", *words, "rounds=1", "clients=1", quick=RUN)
    for name in ("relevance.png", "heatmaps.png"):
        height, width, *_ = image.imread(run / name).shape
        assert min(height, width) > 200


@pytest.mark.parametrize(("rounds", "drawn"), [(3, False), (4, True)])
def test_only_a_run_that_came_to_its_end_has_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rounds: int, drawn: bool
) -> None:
    """And no run fails by them."""
    setup = Setup(parse(compose_config(["method=ecq", *RUN])))
    picture = RelevancePicture(setup, tmp_path / "no folder", lambda: setup.initial)
    picture.on_round(RoundResult(rounds, metrics={}, entries=[]))
    picture.on_end(setup.initial)
    assert ("no picture of relevance: FileNotFoundError" in caplog.text) == drawn
