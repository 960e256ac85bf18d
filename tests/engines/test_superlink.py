"""A real SuperLink and its nodes: the result of a simulation, and every byte counted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.deployment.cluster import Cluster
from tests.common import read_csv, read_summary, run_inline

JOB = ("dataset=digits", "model=mlp", "clients=2", "rounds=2", "method=fedavg", "codec@uplink=topk")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A deployment of two nodes, each with a part of the common data."""
    server = tmp_path_factory.mktemp("server")
    with Cluster(2, server / "cluster", work=server, data_dir=server) as made:
        yield made


def submit(
    cluster: Cluster, folder: Path, *words: str
) -> tuple[subprocess.CompletedProcess[str], Path | None]:
    """Run the command somewhere else; return what it printed, and its run folder."""
    address = f"engine.address={cluster.address}"
    done = subprocess.run(
        [sys.executable, "-m", "fedcomp", "engine=superlink", address, *words],
        cwd=folder,
        env={**cluster.environment, "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done, next(iter(folder.glob("outputs/*/*")), None)


def test_a_deployment_gives_what_a_simulation_gives(cluster: Cluster, tmp_path: Path) -> None:
    done, own = submit(cluster, tmp_path, *JOB)
    said = (cluster.folder / "superlink.log").read_text(encoding="utf-8")[-5000:]
    assert done.returncode == 0, done.stdout + done.stderr + said
    assert own is not None
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("round")] == [
        "round 0/2", "round 1/2", "round 2/2",
    ]  # fmt: skip

    server = cluster.folder.parent
    (run,) = server.glob("outputs/*/*")
    assert run.relative_to(server) == own.relative_to(tmp_path)
    names = {"rounds.csv", "packets.csv", "summary.json", "model.safetensors", "run.log", ".hydra"}
    assert names <= {path.name for path in run.iterdir()}
    assert {path.name for path in own.iterdir()} == {
        "summary.json", "run.log", ".hydra", "checkpoint",
    }  # fmt: skip
    assert lines[-1].split() == ["on", "server", str(run)]

    inline = run_inline(tmp_path / "inline", "engine=inline", quick=JOB)
    assert (run / "model.safetensors").read_bytes() == (inline / "model.safetensors").read_bytes()
    keys = ("round", "client", "direction", "purpose", "kind", "codec", "packet_bytes")
    packets = [
        sorted([row[key] for key in keys] for row in read_csv(folder / "packets.csv")
               if row["purpose"] != "handshake")
        for folder in (run, inline)
    ]  # fmt: skip
    assert packets[0] == packets[1]

    summary = read_summary(own)
    predicted, counted = summary["superlink_bytes"], summary["superlink_counted_bytes"]
    for way in ("inbound", "outbound"):
        assert abs(predicted[way] - counted[way]) < 0.01 * counted[way]
    assert read_summary(run)["superlink_bytes"] == predicted
    assert "both ways by the SuperLink's own count" in done.stdout
    assert done.stderr == ""
    states = cluster.folder.glob("state-*/*/sites/*/state.json")
    assert sorted(path.parent.name for path in states) == ["0", "1"]


def test_what_the_server_lacks_is_said_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    done, _ = submit(cluster, tmp_path, "dataset=cifar10", "model=resnet20", "clients=2")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    server = cluster.folder.parent
    assert line.startswith(f"fedcomp: on the server, in the folder {server}: cifar10: not")
