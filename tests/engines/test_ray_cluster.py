"""Virtual clients on a Ray cluster that somebody else has started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Message, MessageType, RecordDict

from fedcomp.engines.flower import FlowerEngine, ImportedApp
from fedcomp.engines.ray_cluster import Place, refuse
from fedcomp.errors import ConfigError, EngineError
from fedcomp.wire import keys, private
from scripts.deployment import commands
from scripts.deployment.processes import Process, free_port, settle
from tests.common import interrupt, run_inline, without_ray

SMALL = ("clients=3", "rounds=3", "train.steps=2", "model=mlp", "model.hidden=[8]", "fraction=0.67")
SPARSE = ("codec@uplink=topk", "codec@downlink=topk", "link.verify=true")
_NODE = ("--num-cpus=1", "--object-store-memory=100000000")


@pytest.fixture(scope="module")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two Ray nodes with a core each."""
    folder = tmp_path_factory.mktemp("ray")
    address, nodes = "", []

    def start(name: str, *command: str) -> Process:
        nodes.append(Process([*command, *_NODE], folder / f"{name}.log", os.environ, folder))
        return nodes[-1]

    def head() -> Process:
        nonlocal address
        port = free_port()
        address = f"127.0.0.1:{port}"
        extra = ("--include-dashboard=false", "--ray-client-server-port", str(free_port()))
        return start("head", *commands.ray_head(port), *extra)

    try:
        settle(head, "Ray runtime started")
        settle(lambda: start("node", *commands.ray_node(address)), "Ray runtime started")
        yield address
        assert all(node.running for node in nodes)
    finally:
        for node in reversed(nodes):
            node.stop()


@pytest.mark.deploy
def test_a_cluster_of_two_nodes_gives_the_same_bytes(ray_address: str, tmp_path: Path) -> None:
    words = [*SMALL, *SPARSE, "engine=flower", f"engine.ray_address={ray_address}"]
    done = subprocess.run(
        [sys.executable, "-m", "fedcomp", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, without_ray(done.stderr)) == (0, []), done.stdout + done.stderr
    (run,) = tmp_path.glob("outputs/*/*")
    inline = run_inline(tmp_path / "inline", "engine=inline", quick=[*SMALL, *SPARSE])
    models = [(folder / "model.safetensors").read_bytes() for folder in (run, inline)]
    assert models[0] == models[1]


@pytest.mark.deploy
def test_ctrl_c_leaves_the_cluster_alone(ray_address: str, tmp_path: Path) -> None:
    address = f"engine.ray_address={ray_address}"
    interrupt(tmp_path, *SMALL, "method=fedavg", "rounds=10000", address)


@pytest.mark.deploy
def test_clients_too_large_for_every_node_are_named(ray_address: str, tmp_path: Path) -> None:
    words = [*SMALL, f"engine.ray_address={ray_address}", "engine.cpus_per_client=3"]
    done = subprocess.run(
        [sys.executable, "-m", "fedcomp", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stdout + done.stderr
    expected = (
        "no node has the 3 cores and 0 GPUs that a client needs: lower engine.cpus_per_client"
    )
    assert done.stderr.splitlines()[0].startswith(f"fedcomp: {expected}")


def test_an_address_without_a_cluster_is_one_line(tmp_path: Path) -> None:
    words = ["engine=flower", f"engine.ray_address=127.0.0.1:{free_port()}"]
    done = subprocess.run(
        [sys.executable, "-m", "fedcomp", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"fedcomp: {words[1]}: no Ray cluster answers (Connection refused)")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("address", ["", "head", "head:", "head:0", "head:70000", "ray://head:1"])
def test_addresses_of_another_form_are_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is not of the form host:port"):
        FlowerEngine(ray_address=address).check()


def test_the_most_clients_at_a_time_are_the_clusters_matter() -> None:
    with pytest.raises(ConfigError, match=r"engine\.max_parallel=2: on a Ray cluster"):
        FlowerEngine(ray_address="head:6379", max_parallel=2).check()
    backend = FlowerEngine(ray_address="head:6379", gpus_per_client=0.5)._backend(
        "cpu", verbose=False
    )
    resources = backend["client_resources"]
    assert (resources["num_cpus"], resources["num_gpus"]) == (1, 0.5)
    assert backend["init_args"]["address"] == "head:6379"
    assert "num_cpus" not in backend["init_args"]


def test_a_node_that_does_not_see_the_run_folder_says_so_at_the_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.assume_identity()
    monkeypatch.chdir(tmp_path)
    place = Place.of(Path("run/state"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert place.enter() == ""
    assert Path.cwd() == tmp_path
    (tmp_path / "run" / "state").rmdir()
    query = Message(RecordDict(), 1, MessageType.QUERY)
    reply = ImportedApp(place)(query, None)  # type: ignore[arg-type]
    problem = reply.content.config_records[keys.FIELDS][keys.PROBLEM]
    assert f"does not see {tmp_path}/run/state" in str(problem)
    with pytest.raises(EngineError, match=r"hydra\.run\.dir"):
        refuse(Message(RecordDict(), 1, MessageType.TRAIN), str(problem))
