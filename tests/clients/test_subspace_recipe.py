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
from tests.common import QUICK, context_for, equal, read_summary, run_inline, spied

RUN = (*QUICK[1:], "rounds=3", "train.steps=4")
SHORT = ("engine=inline", "clients=2", "rounds=2", "train.steps=2")


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("train.weight_decay=0.1",),
        ("train.optimizer=adam", "train.lr=0.001"),
        ("model=resnet20", "rounds=3"),
        ("train.parameters=head",),
    ],
    ids=["sgd", "decay", "adam", "batch_norm", "head"],
)
def test_what_a_client_sends_lies_in_the_subspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    seen = spied(monkeypatch, SubspaceTraining)
    run_inline(tmp_path, "method=fedcomp", "link.verify=true", *more, quick=SHORT)
    assert seen
    for work, answer in seen:
        manifest = work.link.session.manifest
        codec = work.link.codec
        assert isinstance(codec, Subspace)
        columns = codec.columns(manifest, work.link.session.seed)
        assert isinstance(answer.tensors, dict)
        floats = {spec.name for spec in manifest.specs if spec.dtype == "float32"}
        assert columns.keys() == floats - {s.name for s in manifest.specs if s.kind is Kind.BUFFER}
        for name, drawn in columns.items():
            moved = answer.tensors[name] - work.link.received[name]
            inside = drawn.spread(drawn.project(moved)).reshape(moved.shape)
            scale = np.abs(work.link.received[name]).max() + np.abs(moved).max()
            np.testing.assert_allclose(inside, moved, atol=float(scale) * 1e-6)


def test_the_model_moves_in_the_subspace_over_all_rounds(tmp_path: Path) -> None:
    words = ("method=fedcomp", "link.verify=true")
    first = run_inline(tmp_path / "a", *words, "rounds=1", quick=RUN)
    last = run_inline(tmp_path / "b", *words, "rounds=8", quick=RUN)
    start, end = (load_file(run / "model.safetensors") for run in (first, last))
    codec = Subspace(dimensions=8000)  # of the last rounds
    manifest = context_for(start).manifest
    for name, drawn in codec.columns(manifest, 1).items():
        moved = end[name] - start[name]
        inside = drawn.spread(drawn.project(moved)).reshape(moved.shape)
        np.testing.assert_allclose(inside, moved, atol=1e-5)
        assert np.abs(moved).max() > 0


def test_with_another_codec_clients_train_as_in_fedavg(tmp_path: Path) -> None:
    words = ("codec@uplink=uniform", "codec@downlink=uniform")
    ours = run_inline(tmp_path / "a", "method=fedcomp", *words, quick=RUN)
    plain = run_inline(tmp_path / "b", "method=fedavg", *words, quick=RUN)
    assert equal(*(load_file(run / "model.safetensors") for run in (ours, plain)))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (("uplink.whole=9",), "uplink.whole=9 downlink.whole=500"),
        (("codec@downlink=subspace",), "uplink.schedule downlink.schedule"),
        (
            ("codec@uplink=subspace", "codec@downlink=subspace", "downlink.dimensions=4000"),
            "uplink.dimensions=2000 downlink.dimensions=4000",
        ),
    ],
)
def test_both_directions_share_the_subspace(given: tuple[str, ...], shown: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_config(["method=fedcomp", *given])
    assert error.value.problems == [
        f"{shown}: differ; two subspaces have next to nothing in common, and what clients send"
        " would not arrive; give both directions the same"
    ]


def test_what_a_schedule_gives_is_not_given_twice() -> None:
    with pytest.raises(ConfigError) as error:
        compose_config(["method=fedcomp", "uplink.dimensions=99"])
    assert error.value.problems[0] == (
        "uplink.dimensions=99: uplink.schedule.key=dimensions gives other values, from 2000 on;"
        " leave one of them out"
    )


def test_packets_stay_small_and_the_model_learns(tmp_path: Path) -> None:
    words = ("method=fedcomp", "rounds=6", "clients=3", "engine=inline")
    summary = read_summary(run_inline(tmp_path, *words, quick=()))
    assert summary["final_accuracy"] > 0.5
    assert summary["compression_ratio"] > 50
