"""A deployment on this machine with TLS and authentication, as the guide has it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scripts.deployment import commands
from scripts.deployment.cluster import HOST, ROOT, Cluster
from scripts.deployment.processes import Process, ProcessError, free_port, settle
from tests import guide
from tests.common import read_csv, read_summary

pytestmark = pytest.mark.deploy

SMALL = (
    "method=half",
    "model=mlp",
    "model.hidden=[8]",
    "train.steps=2",
    "strategy.fraction_evaluate=0",
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    data = folder / "data"
    data.mkdir()
    with Cluster(2, folder, tls=True, auth=True, data_dir=data) as cluster:
        yield cluster


def start(cluster: Cluster, folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start a job; its folder on the server is `folder`, too."""
    words = (*SMALL, *overrides, f"hydra.run.dir={folder}")
    return subprocess.Popen(
        commands.job(cluster.address, cluster.root_certificates, 2, *words),
        env=cluster.environment | {"PYTHONUNBUFFERED": "1"},
        cwd=cluster.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def heard(job: subprocess.Popen[str], words: str) -> str:
    """Wait until a job has printed these words, and return what it has printed."""
    assert job.stdout
    output = ""
    while words not in output:
        line = job.stdout.readline()
        assert line, output
        output += line
    return output


def test_a_job_runs_with_tls_and_authentication(cluster: Cluster, tmp_path: Path) -> None:
    job = start(cluster, tmp_path / "run", "rounds=2")
    output = job.communicate()[0]
    assert job.returncode == 0, output
    summary = read_summary(tmp_path / "run")
    assert (summary["rounds"], summary["failures"]) == (2, 0)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert [len(list(cluster.state_dir(i).iterdir())) for i in range(2)] == [1, 1]


def test_a_node_that_nobody_registered_is_refused(cluster: Cluster) -> None:
    assert cluster.refusal() == "No SuperNode found with the given public key"
    assert len(cluster.online()) == 2


def test_a_key_that_was_unregistered_is_never_let_in_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    cluster.call(commands.node_key(key))
    node = cluster.flwr(commands.register(key.with_suffix(".pub")))
    cluster.flwr(commands.unregister(str(node["node-id"])))
    with pytest.raises(ProcessError, match="has ended with"):
        cluster.call(commands.register(key.with_suffix(".pub")))


def test_a_node_that_is_killed_comes_back(cluster: Cluster, tmp_path: Path) -> None:
    job = start(cluster, tmp_path / "run", "rounds=10")
    output = heard(job, "\nround 1/")
    cluster.kill(1)
    output += heard(job, "failed: ")  # a node that is back sooner may be missed by nobody
    cluster.restart(1)
    output += job.communicate()[0]
    assert job.returncode == 0, output
    rounds = read_csv(tmp_path / "run" / "rounds.csv")
    clients = [int(row["clients"]) for row in rounds]
    assert (len(rounds), clients[-1]) == (11, 2)
    assert min(clients[1:]) == 1
    assert read_summary(tmp_path / "run")["failures"] >= 1


def test_a_job_of_a_checkout_runs(cluster: Cluster) -> None:
    given = cluster.flwr(commands.run(ROOT, " ".join(("clients=2", "rounds=1", *SMALL))))
    deadline = time.monotonic() + 300
    state: dict[str, str] = {}
    while not state.get("status", "").startswith("finished") and time.monotonic() < deadline:
        time.sleep(3)
        (state,) = cluster.flwr(commands.show_run(str(given["run-id"])))["runs"]
    assert state["status"] == "finished:completed", state
    assert list(cluster.folder.glob("outputs/*/*-half-digits/model.safetensors"))


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_the_proxy_of_the_guide_hands_on_nothing_but_what_nodes_need(
    cluster: Cluster, tmp_path: Path
) -> None:
    def proxy() -> Process:
        nonlocal address
        address = f"{HOST}:{free_port()}"
        (server,) = guide.blocks("nginx")
        server = server.replace("listen 8443", f"listen {address}")
        server = server.replace(f"{HOST}:8000", cluster.address)
        server = server.replace("/etc/fedcomp", str(cluster.folder))
        places = " ".join(
            f"{kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = (
            f"daemon off; pid {tmp_path}/pid; error_log stderr notice; events {{}}\n"
            f"http {{ access_log off; {places}\n{server}}}\n"
        )
        (tmp_path / "nginx.conf").write_text(config)
        command = ["nginx", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
        return Process(command, tmp_path / "nginx.log", os.environ, tmp_path)

    def status(path: str) -> int:
        words = ["curl", "-s", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}"]
        trust = ["--cacert", str(cluster.root_certificates), "-X", "POST"]
        done = subprocess.run(
            [*words, *trust, f"https://{address}{path}"], capture_output=True, text=True
        )
        return int(done.stdout)

    address = ""
    running = settle(proxy, "start worker process ")
    try:
        assert status("/v1/fleet/get-run") == 415  # the SuperLink's answer to an empty body
        for path in (
            *("/v1/control/list-runs", "/v1/runtime/pull-messages", "/docs", "/health"),
            *("/v1/fleet/../control/list-runs", "/v1/fleet/%2e%2e/control/list-runs"),
            *("/v1/control%2flist-runs", "//v1//control//list-runs"),
        ):
            assert status(path) == 404, path
        cluster.fleet_address = address
        cluster.restart(0)
        job = start(cluster, tmp_path / "run", "rounds=1")
        output = job.communicate()[0]
        assert job.returncode == 0, output
        assert read_summary(tmp_path / "run")["failures"] == 0
    finally:
        cluster.fleet_address = cluster.address
        running.stop()
        cluster.restart(0)


def test_a_deployment_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [
        sys.executable,
        "-P",
        "-m",
        "scripts.deployment",
        "1",
        "--show",
        "rounds=100",
        *SMALL,
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**environment, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = heard(process, "\nround 1/")
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 5
    process.send_signal(signal.SIGTERM)
    output += process.communicate()[0]
    assert process.returncode == 128 + signal.SIGTERM, output
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert not list(tmp_path.glob("fedcomp-*"))


def test_wrong_arguments_are_one_line(tmp_path: Path) -> None:
    def said(*words: str) -> tuple[int, str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-P", "-m", "scripts.deployment", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stderr.splitlines()[-1]

    assert said("2", "--auth") == (
        2,
        "scripts/deploy-local: error: --auth needs --tls: a SuperLink authenticates nodes over TLS"
        " alone",
    )
    assert said("0")[0] == 2
