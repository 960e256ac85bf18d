"""Method fedcomp as runs: what clients send lies in one subspace, in few bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from clients.subspace import SubspaceTraining
from fedcomp.codecs.subspace import Subspace
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError
from fedcomp.tensors import Kind
from tests.common import context_for, read_summary, run_inline, spied

NET = ("engine=inline", "model=small_cnn", "link.verify=true")
SHORT = (*NET, "clients=2", "rounds=3", "train.steps=2")


def grown(start: int, end: int) -> tuple[str, ...]:
    ways = ("uplink", "downlink")
    values = (("start", start), ("end", end), ("shape", "doubling"))
    return tuple(f"{w}.schedule.{k}={v}" for w in ways for k, v in values)


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("train.weight_decay=0.1",),
        ("train.optimizer=adam", "train.lr=0.001"),
        ("model=resnet20",),
        ("train.parameters=last_2",),
    ],
    ids=["sgd", "decay", "adam", "batch_norm", "part"],
)
def test_what_a_client_sends_lies_in_the_subspace_of_the_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    seen = spied(monkeypatch, SubspaceTraining)
    run_inline(tmp_path, "method=fedcomp", *grown(200, 800), *more, quick=SHORT)
    assert [work.round for work, _ in seen] == [1, 1, 2, 2, 3, 3]
    for work, answer in seen:
        manifest = work.link.session.manifest
        codec = work.link.codec
        assert isinstance(codec, Subspace)
        assert codec.dimensions == 100 * 2**work.round
        columns = codec.columns(manifest, work.link.session.seed)
        assert isinstance(answer.tensors, dict)
        floats = {spec.name for spec in manifest.specs if spec.dtype == "float32"}
        assert columns.keys() == floats - {s.name for s in manifest.specs if s.kind is Kind.BUFFER}
        shared = [name for name, drawn in columns.items() if not drawn.is_whole]
        assert shared
        for name in shared:
            moved = answer.tensors[name] - work.link.received[name]
            assert np.abs(moved).max() > 0
            inside = columns[name].spread(columns[name].project(moved)).reshape(moved.shape)
            scale = np.abs(work.link.received[name]).max() + np.abs(moved).max()
            np.testing.assert_allclose(inside, moved, atol=float(scale) * 1e-6)


def test_the_model_moves_in_the_last_subspace_over_all_rounds(tmp_path: Path) -> None:
    models = []
    for rounds in (1, 8):
        folder = tmp_path / str(rounds)
        words = (f"rounds={rounds}", "train.steps=3", "clients=3")
        run_inline(folder, "method=fedcomp", *grown(100, 400), *words, quick=NET)
        models.append(load_file(folder / "model.safetensors"))
    start, end = models  # after one round the model is still as it was drawn
    manifest = context_for(start).manifest
    for dimensions, holds in ((400, True), (100, False)):
        columns = Subspace(dimensions=dimensions).columns(manifest, 1)
        outside = 0.0
        for name, drawn in columns.items():
            moved = end[name] - start[name]
            assert np.abs(moved).max() > 0
            inside = drawn.spread(drawn.project(moved)).reshape(moved.shape)
            outside = max(outside, float(np.abs(inside - moved).max()))
        assert (outside < 1e-5) == holds


SAME = "codec@downlink=subspace: is for what clients send in the same subspace"
GROWS = "uplink.schedule: a subspace holds an earlier one only where its dimensions double"
FIXED = ("codec@uplink=subspace", "codec@downlink=subspace")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("uplink.whole=9",), SAME),
        (("codec@downlink=subspace",), SAME),
        ((*FIXED, "downlink.dimensions=4000"), SAME),
        (("recipe=local", "codec@uplink=topk"), SAME),
        (("codec@uplink=topk", "codec@downlink=none"), "recipe=subspace codec@uplink=topk: trains"),
        (("uplink.schedule.end=7000", "downlink.schedule.end=7000"), GROWS),
        (("uplink.schedule.shape=linear", "downlink.schedule.shape=linear"), GROWS),
        (("uplink.schedule.start=8000", "uplink.schedule.end=2000"), GROWS),
        (("uplink.schedule.key=whole",), GROWS),
    ],
)
def test_what_would_leave_the_subspace_is_refused(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_config(["method=fedcomp", *given])
    assert any(problem.startswith(message) for problem in error.value.problems)


def test_what_stays_in_the_subspace_composes() -> None:
    for given in (
        (*FIXED, "uplink.dimensions=900", "downlink.dimensions=900"),
        ("downlink.quantiser=uniform", "downlink.width=1", "downlink.coder=cabac"),
        ("uplink.schedule.end=2000", "downlink.schedule.end=2000"),
        ("codec@downlink=none",),
        ("recipe=local",),
    ):
        compose_config(["method=fedcomp", *given])


def test_masks_and_subspaces_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="values=subspace: its coordinates hang"):
        compose_config(["method=feddip", "uplink.values=subspace"])


def test_packets_stay_small_and_the_model_learns(tmp_path: Path) -> None:
    words = ("method=fedcomp", "rounds=6", "clients=3", "engine=inline")
    summary = read_summary(run_inline(tmp_path, *words, quick=()))
    assert summary["final_accuracy"] > 0.5
    assert summary["compression_ratio"] > 50
