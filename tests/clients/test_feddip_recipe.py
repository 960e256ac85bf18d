"""FedDIP, magnitude pruning and SNIP as runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from clients import masked
from clients.feddip import FedDip
from clients.masked import MaskedTraining
from clients.snip import Snip
from fedcomp.config import compose_config
from fedcomp.link.client import ClientLink
from fedcomp.methods import Answer, Work
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Array, Tensors
from fedcomp.training.pruning import magnitude_masks
from tests.common import QUICK, equal, read_csv, read_summary, run_inline

RUN = (*QUICK[1:], "rounds=8", "train.steps=8", "train.momentum=0.9")
EXACT = ("codec@uplink=none", "codec@downlink=none")


def saved(run: Path) -> Tensors:
    return dict(load_file(run / "model.safetensors"))


def zeros(model: Tensors) -> float:
    weights = [value for value in model.values() if value.ndim > 1]
    return 1 - sum(map(np.count_nonzero, weights)) / sum(value.size for value in weights)


def spied(kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> list[tuple[Work, Answer]]:
    """Note what each client is given and answers."""
    seen: list[tuple[Work, Answer]] = []
    fit = kind.fit

    def noted(self: Any, work: Work) -> Answer:
        made = fit(self, work)
        seen.append((work, made))
        return Answer(made.tensors, dict(made.metrics), made.side)

    monkeypatch.setattr(kind, "fit", noted)
    return seen


@pytest.mark.parametrize("mode", ["mask_then_prune", "prune_dense_average"])
def test_feddip_uploads_what_the_server_looks_at(mode: str, tmp_path: Path) -> None:
    """Where the old mask applies first, weights that it leaves out need not travel."""
    words = ("method=feddip", *EXACT, "server_step.interval=3", f"server_step.reconfigure={mode}")
    needed = run_inline(tmp_path / "needed", *words, quick=RUN)
    dense = run_inline(tmp_path / "dense", *words, "recipe.upload=dense", quick=RUN)
    assert equal(saved(needed), saved(dense))
    pairs = zip(*(read_csv(run / "rounds.csv")[1:] for run in (needed, dense)), strict=True)
    less = [float(one["zeros"]) - float(other["zeros"]) for one, other in pairs]
    whole = {"mask_then_prune": [1], "prune_dense_average": [1, 4, 7]}[mode]
    assert [n for n, more in enumerate(less, 1) if not more] == whole
    assert min(more for more in less if more) > 0.3


def test_feddip_nested_is_masked_training_with_a_penalty(tmp_path: Path) -> None:
    """Weights outside the mask are in no forward pass, and are thrown away afterwards."""
    words = (*EXACT, "server_step.interval=3")
    plain = ("recipe.initial=none", "recipe.penalty.first=0", "recipe.penalty.limit=0")
    dip = run_inline(tmp_path / "dip", "method=feddip", *words, *plain, quick=RUN)
    magnitude = run_inline(tmp_path / "magnitude", "method=magnitude", *words, quick=RUN)
    assert equal(saved(dip), saved(magnitude))
    penalty = ("recipe.initial=none", "recipe.penalty.first=0.1", "recipe.penalty.stages=2")
    other = run_inline(tmp_path / "other", "method=feddip", *words, *penalty, quick=RUN)
    assert not equal(saved(dip), saved(other))


def test_feddip_leaves_a_sparse_model(tmp_path: Path) -> None:
    run = run_inline(tmp_path, "method=feddip", "link.verify=true", quick=RUN)
    model = saved(run)
    assert zeros(model) == pytest.approx(0.95 - 0.45 * (3 / 8) ** 3, abs=1e-3)
    rows = read_csv(run / "rounds.csv")[1:]
    assert [float(row["zeros"]) < 0.02 for row in rows] == [True] + [False] * 7
    spent = read_summary(run)["paper_bytes"]
    parameters = read_summary(run)["parameters"]
    paper = sum(4 * int(32 * (1 - float(row["zeros"])) * parameters) / 2**20 for row in rows)
    assert spent["uplink"] == pytest.approx(paper, rel=1e-4)
    packets = read_csv(run / "packets.csv")
    down = [(p["round"], p["kind"]) for p in packets if p["direction"] == "downlink"]
    kinds = [{kind for number, kind in down if number == str(n)} for n in range(1, 9)]
    assert kinds == [{"held"}, {"absolute"}, *[{"anchored"}] * 6]
    sent = [int(p["payload_bytes"]) for p in packets if p["direction"] == "uplink"]
    sizes = [size for size in sent if size]
    assert len(set(sizes[4:24])) == 1  # no mask travels up while the server's stays
    assert sizes[0] > 1.9 * sizes[4]


def test_feddip_sends_masks_down_once(tmp_path: Path) -> None:
    """Sizes of the packets after each round: values alone, or values and a mask."""
    words = ("method=feddip", "downlink.values=none", "server_step.interval=4")
    run = run_inline(tmp_path, *words, quick=RUN)
    packets = [p for p in read_csv(run / "packets.csv") if p["direction"] == "downlink"]
    by_round = {int(p["round"]): int(p["payload_bytes"]) for p in packets}
    sizes = [by_round[number] for number in range(1, 9)]
    model = saved(run)
    kept = sum(np.count_nonzero(v) if v.ndim > 1 else v.size for v in model.values())
    assert sizes[6] == sizes[7] == 4 * kept + 3 + 1 + 1  # a length, two lists of tensors
    assert sizes[5] > sizes[6] + 20
    assert sizes[2] == sizes[3] < sizes[1]


@pytest.mark.parametrize("initial", ["erk", "uniform", "none"])
def test_feddip_draws_first_masks_at_each_client(
    initial: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    original = FedDip._first_masks

    def noted(self: FedDip, work: Work, names: list[str]) -> Any:
        drawn.append(original(self, work, names))
        return drawn[-1]

    monkeypatch.setattr(FedDip, "_first_masks", noted)
    words = ("method=feddip", f"recipe.initial={initial}", "rounds=2", "train.steps=1")
    run_inline(tmp_path, *words, quick=RUN)
    assert len(drawn) == 4
    if initial == "none":
        assert drawn == [{}] * 4
        return
    shares = {name: float(np.mean(mask)) for name, mask in drawn[0].items()}
    total = sum(mask.sum() for mask in drawn[0].values())
    assert total == pytest.approx(0.5 * sum(m.size for m in drawn[0].values()), abs=1)
    assert (shares["1.weight"] == pytest.approx(0.5, abs=1e-3)) == (initial == "uniform")
    for name, mask in drawn[0].items():
        assert mask.all() or not np.array_equal(mask, drawn[1][name])


def test_feddip_weights_outside_the_mask_get_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spied(FedDip, monkeypatch)
    run_inline(tmp_path, "method=feddip", "recipe.upload=dense", *EXACT, "rounds=3", quick=RUN)
    for work, made in seen[4:]:
        assert isinstance(made.tensors, dict)
        for name in ("1.weight", "3.weight"):
            masked = work.link.received[name] == 0
            assert (made.tensors[name][masked] != 0).mean() > 0.2  # some units are dead


def test_what_feedback_holds_of_pruned_weights_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Tensors] = []
    confine = ClientLink.confine

    def noted(self: ClientLink, masks: Any) -> None:
        before = {name: self.residual[name].copy() for name in masks if name in self.residual}
        confine(self, masks)
        for name, value in before.items():
            assert not self.residual[name][~masks[name]].any()
            assert np.array_equal(self.residual[name][masks[name]], value[masks[name]])
            left.append({name: value[~masks[name]]})

    monkeypatch.setattr(ClientLink, "confine", noted)
    words = ("method=feddip", "uplink.values={name: uniform, bits: 3}", "server_step.interval=2")
    run = run_inline(tmp_path, *words, "link.verify=true", quick=RUN)
    assert any(value.any() for tensors in left for value in tensors.values())
    assert zeros(saved(run)) > 0.9


def test_magnitude_pruning_trains_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spied(MaskedTraining, monkeypatch)
    run = run_inline(tmp_path, "method=magnitude", "train.weight_decay=0.01", quick=RUN)
    assert zeros(saved(run)) == pytest.approx(0.95 - 0.45 * (3 / 8) ** 3, abs=1e-3)
    for work, made in seen:
        assert isinstance(made.tensors, dict)
        for name in ("1.weight", "3.weight"):
            assert not made.tensors[name][work.link.received[name] == 0].any()


def test_snip_prunes_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(Snip, monkeypatch)
    words = ("method=snip", "server_step.target=0.8", "train.weight_decay=0.1")
    run = run_inline(tmp_path, *words, quick=RUN)
    model = saved(run)
    assert zeros(model) == pytest.approx(0.8, abs=1e-3)
    initial = Setup(parse(compose_config([*RUN, "method=snip"]))).initial
    names = ["1.weight", "3.weight"]
    first = initial["1.weight"].size

    def layers(flat: Array) -> Tensors:
        parts = zip(names, np.split(flat, [first]), strict=True)
        return {name: part.reshape(initial[name].shape) for name, part in parts}

    scores = [made.side["scores"].astype(float) for _, made in seen[:4]]
    masks, _ = magnitude_masks(layers(np.mean([s / s.sum() for s in scores], axis=0)), 0.8)
    for name in names:
        assert np.array_equal(model[name] != 0, masks[name])
    for _work, made in seen[:4]:
        assert isinstance(made.tensors, dict)
        own, _ = magnitude_masks(layers(made.side["scores"]), 0.8)
        for name in names:  # what the client's own scores leave out stays as it came
            moved = made.tensors[name] != initial[name]
            assert not (moved & ~own[name]).any()
            assert moved[own[name]].mean() > 0.5
    assert all(not made.side for _, made in seen[4:])
    rows = read_csv(run / "rounds.csv")
    total = scores[0].size
    assert 2 * total < int(rows[1]["side_bytes"]) / 4 < 2 * total + 30
    assert {row["side_bytes"] for row in rows[2:]} == {"0"}


def test_magnitude_pruning_trains_a_layer_that_starts_at_zero(tmp_path: Path) -> None:
    start = Setup(parse(compose_config([*RUN, "method=magnitude"]))).initial
    start = {name: value.copy() for name, value in start.items()}
    start["3.weight"][:] = 0
    save_file(start, tmp_path / "start.safetensors")
    words = ("method=magnitude", f"model.weights={tmp_path / 'start.safetensors'}")
    assert saved(run_inline(tmp_path / "run", *words, quick=RUN))["3.weight"].any()


@pytest.mark.parametrize("bits", [2, 4])
def test_coarse_values_prune_no_more_than_the_schedule(bits: int, tmp_path: Path) -> None:
    values = f"{{name: uniform, bits: {bits}}}"
    words = ("server_step.start=0.5", "server_step.target=0.5", f"downlink.values={values}")
    run = run_inline(tmp_path, "method=feddip", *words, "link.verify=true", quick=RUN)
    assert zeros(saved(run)) == pytest.approx(0.5, abs=1e-3)


def test_feddip_penalises_all_weights_as_the_round_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, float]] = []
    train = masked.train_masked

    def noted(work: Work, masks: Any, *, dense: bool, penalties: dict[str, float]) -> float:
        given.append(penalties)
        return train(work, masks, dense=dense, penalties=penalties)

    monkeypatch.setattr(masked, "train_masked", noted)
    words = ("recipe.penalty.first=0.1", "recipe.penalty.limit=0.4", "recipe.penalty.stages=4")
    run_inline(tmp_path, "method=feddip", *words, "fraction=0.25", quick=RUN)
    sizes = [0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert given == [{"1.weight": pytest.approx(s), "3.weight": pytest.approx(s)} for s in sizes]


def test_feddip_at_extreme_sparsity(tmp_path: Path) -> None:
    words = ("method=feddip", "server_step.start=0.9", "server_step.target=0.99", "rounds=11")
    run = run_inline(tmp_path, *words, "link.verify=true", quick=RUN)
    model = saved(run)
    assert zeros(model) == pytest.approx(0.99 - 0.09 / 11**3, abs=2e-3)
    assert all(value.any() for value in model.values() if value.ndim > 1)
