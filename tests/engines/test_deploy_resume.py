"""A deployed run whose server dies, and the one that goes on with it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scripts.deployment.cluster import Cluster
from tests.common import read_csv, read_summary

WORDS = (
    *("dataset=digits", "model=mlp", "clients=2", "rounds=4", "method=stc", "link.verify=true"),
    *("engine=superlink", "hydra.run.dir=run"),
)


def servers(run: str = "flwr-serverapp") -> list[psutil.Process]:
    """Return the processes in which this machine's SuperLinks run server apps."""
    everything = psutil.process_iter(["cmdline"])
    return [p for p in everything if any(run in word for word in p.info["cmdline"] or ())]


@pytest.mark.deploy
def test_a_deployed_run_goes_on_after_its_server_died(tmp_path: Path) -> None:
    server, here = tmp_path / "server", tmp_path / "here"
    server.mkdir()
    here.mkdir()
    with Cluster(2, tmp_path / "cluster", work=server, data_dir=server) as cluster:
        command = [sys.executable, "-m", "fedcomp"]
        options = {"cwd": here, "env": cluster.environment}
        before = {process.pid for process in servers()}
        words = [*WORDS, f"engine.address={cluster.address}"]
        first = subprocess.Popen([*command, *words], **options)  # type: ignore[call-overload]
        deadline = time.monotonic() + 300
        while not (server / "run/checkpoint/round-000002/state.json").exists():
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        first.kill()
        first.wait()
        second = subprocess.run(  # the server has not heard of it
            [*command, "resume=run"], **options, capture_output=True, text=True
        )  # type: ignore[call-overload]
        assert second.returncode == 1
        assert "another process is at this run" in second.stderr
        for process in servers():
            if process.pid not in before:
                process.kill()
        again = subprocess.run([*command, "resume=run"], **options, capture_output=True, text=True)  # type: ignore[call-overload]
        assert again.returncode == 0, again.stdout + again.stderr
        assert "goes on after round " in again.stdout
    assert [row["round"] for row in read_csv(server / "run" / "rounds.csv")] == list("01234")
    summary = read_summary(here / "run")
    assert summary["status"] == "finished"
    assert summary["final_accuracy"] > 0.5
