"""FedCompress as runs, on a small data set."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from clients.fedcompress import FedCompress
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError
from fedcomp.link.client import ClientLink
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Tensors
from fedcomp.training import loop
from fedcomp.training.representation import effective_rank
from fedcomp.training.score import total
from tests.common import QUICK, equal, read_csv, read_summary, run_inline, spied

RUN = (*QUICK[1:], "rounds=6", "train.steps=4", "method=fedcompress")
SHORT = (
    "server_step.distillation.samples=64",
    "server_step.distillation.epochs=2",
    "server_step.distillation.batch_size=32",
)
WEIGHTS = ("1.weight", "3.weight")
HIDDEN = 8


def run_in(folder: Path, *words: str) -> Path:
    return run_inline(folder, f"data_dir={folder}", *words, quick=RUN)


def saved(run: Path) -> Tensors:
    return dict(load_file(run / "model.safetensors"))


def distinct(model: Tensors) -> list[int]:
    return [len(np.unique(model[name])) for name in WEIGHTS]


def test_every_transfer_has_at_most_so_many_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spied(monkeypatch, FedCompress)
    received: list[Tensors] = []
    opened = ClientLink.open

    def noted(self: ClientLink, *given: Any) -> None:
        opened(self, *given)
        received.append(dict(self.received))

    monkeypatch.setattr(ClientLink, "open", noted)
    words = ("server_step.clusters.patience=1", "server_step.clusters.limit=9", "link.verify=true")
    run = run_in(tmp_path, *SHORT, *words)
    rows = read_csv(run / "rounds.csv")[1:]
    counts = [round(float(row["clusters"])) for row in rows]
    assert counts == [8, 8, 8, 9, 10, 11], "one more a round once three have been seen"
    for work, answer in seen:
        assert isinstance(answer.tensors, dict)
        most = counts[work.round - 1]
        assert max(distinct(answer.tensors)) <= most
        assert answer.metrics["clusters"] == most
        if work.round > 1:
            assert max(distinct(dict(work.link.received))) <= most
    assert max(distinct(received[0])) > 100, "the untrained model is not clustered"
    assert max(distinct(saved(run))) <= counts[-1] + 1
    summary = read_summary(run)
    assert summary["clusters"] == 12
    assert summary["failures"] == 0


def test_the_first_model_costs_a_header_and_clients_know_how_many_clusters(tmp_path: Path) -> None:
    run = run_in(tmp_path, *SHORT, "server_step.clusters.least=5", "rounds=1")
    first, *_ = (p for p in read_csv(run / "packets.csv") if p["direction"] == "downlink")
    assert int(first["payload_bytes"]) == 0
    (_, row) = read_csv(run / "rounds.csv")
    assert float(row["clusters"]) == 5
    assert max(distinct(saved(run))) <= 5


def test_without_self_compression_the_average_is_sent(tmp_path: Path) -> None:
    run = run_in(tmp_path, "server_step.distillation.epochs=0")
    assert min(distinct(saved(run))) > 8
    rows = read_csv(run / "rounds.csv")[1:]
    assert all(row["distillation_loss"] == "" for row in rows)
    compressed = run_in(tmp_path / "both", *SHORT)
    both = read_csv(compressed / "rounds.csv")[1:]
    assert all(float(row["distillation_loss"]) > 0 for row in both)
    down, less = (sum(int(row["downlink_bytes"]) for row in r) for r in (rows, both))
    assert less < 0.8 * down


@pytest.mark.parametrize("score", ["gram", "embeddings"])
def test_the_score_is_that_of_all_embeddings(
    score: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spied(monkeypatch, FedCompress)
    run = run_in(tmp_path, *SHORT, f"recipe.score={score}", "rounds=2")
    for row in read_csv(run / "rounds.csv")[1:]:
        sides = [answer.side for work, answer in seen if work.round == int(row["round"])]
        assert all(list(side) == [score] for side in sides)
        found, _ = total(sides, HIDDEN)
        assert found is not None
        assert float(row["representation"]) == pytest.approx(effective_rank(found), rel=1e-9)
        side = [p for p in read_csv(run / "packets.csv") if p["purpose"] == "side"]
        sent = [int(p["packet_bytes"]) for p in side if p["direction"] == "uplink"]
        assert min(sent) > 0
        assert int(row["uplink_bytes"]) > sum(sent[:4])


def test_both_ways_to_send_the_score_give_one_run(tmp_path: Path) -> None:
    runs = [
        run_in(tmp_path / score, *SHORT, f"recipe.score={score}", "rounds=4")
        for score in ("gram", "embeddings")
    ]
    one, other = (read_csv(run / "rounds.csv")[1:] for run in runs)
    for left, right in zip(one, other, strict=True):
        scores = [float(row["representation"]) for row in (left, right)]
        assert scores[0] == pytest.approx(scores[1], abs=2e-3)
    assert equal(*(saved(run) for run in runs))


def test_paper_bytes_are_those_of_deflated_floats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spied(monkeypatch, FedCompress)
    run = run_in(tmp_path, *SHORT, "rounds=1", "downlink.others=fp32")

    def size(tensors: Tensors) -> int:
        packer = zlib.compressobj(6)
        parts = [packer.compress(v.astype("<f4").tobytes()) for v in tensors.values()]
        return len(b"".join(parts)) + len(packer.flush())

    sizes = [size(dict(a.tensors)) for _, a in seen]  # type: ignore[arg-type]
    spent = read_summary(run)["paper_bytes"]
    assert spent["uplink"] == pytest.approx(sum(sizes), rel=0.02)
    model = saved(run)  # a file has an order of its own, which Deflate feels
    ordered = {name: model[name] for name in seen[0][1].tensors}  # type: ignore[union-attr]
    assert spent["downlink"] == pytest.approx(len(sizes) * size(ordered), rel=0.02)
    assert spent["total"] == spent["uplink"] + spent["downlink"]
    assert spent["unit"] == "byte"


def test_a_run_can_be_repeated_to_the_bit(tmp_path: Path) -> None:
    runs = [run_in(tmp_path / str(n), *SHORT, "rounds=3") for n in range(2)]
    assert equal(*(saved(run) for run in runs))


@pytest.mark.parametrize("words", [("recipe=local",), ("server_step=none",)])
def test_one_end_alone_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="clusters need both ends; choose method=fedcompress"):
        compose_config(["method=fedcompress", *words])


def test_bounds_of_the_number_are_in_order() -> None:
    with pytest.raises(ConfigError, match=r"server_step\.clusters: least=31 is above most=30"):
        compose_config(["method=fedcompress", "server_step.clusters.least=31"])


def test_what_has_no_layers_to_cluster_is_refused_before_the_run(tmp_path: Path) -> None:
    for words in (("server_step.weights=conv",), ("train.parameters=bias",)):
        setup = Setup(parse(compose_config([*RUN, *words, f"data_dir={tmp_path}"])))
        with pytest.raises(ConfigError, match="no layer that is trained has more than 8 of these"):
            setup.check()


def test_fedprox_pulls_in_the_first_phase_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forward pass of the second one sees centroids, which a pull on weights does not move."""
    pulls: list[float] = []
    train = loop.train

    def noted(*given: Any, proximal_mu: float, **named: Any) -> float:
        pulls.append(proximal_mu)
        return train(*given, proximal_mu=proximal_mu, **named)

    monkeypatch.setattr(loop, "train", noted)
    run_in(tmp_path, *SHORT, "rounds=1", "train.proximal_mu=0.5")
    run_in(tmp_path, *SHORT, "rounds=1", "strategy=fedprox", "strategy.proximal_mu=0.25")
    assert pulls == 4 * [0.5, 0.0] + 4 * [0.25, 0.0]
