"""Clients of Flower's simulation whose processes die or hang."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.common import read_csv, read_summary, without_ray

FATES = """
import os, sys

def meet(fit):
    def answer(self, work):
        what = f"{work.round}-{work.client}"
        fate = dict(pair.split("=") for pair in os.environ["FATES"].split()).get(what)
        place = os.path.join(os.environ["FATES_FOLDER"], what)
        before = os.path.exists(place)
        if fate:
            open(place, "a").close()
        if fate == "dies" or fate == "dies-once" and not before:
            os._exit(9)
        if fate == "hangs":
            time.sleep(10_000)
        return fit(self, work)
    return answer

def change():
    while not hasattr(sys.modules.get("clients.local"), "LocalTraining"):
        time.sleep(0.005)
    recipe = sys.modules["clients.local"].LocalTraining
    recipe.fit = meet(recipe.fit)

if "default_worker.py" in " ".join(sys.orig_argv):
    import threading, time
    threading.Thread(target=change, daemon=True).start()
"""
WORDS = (
    *("engine=flower", "clients=4", "rounds=3", "method=fedavg", "model=mlp", "model.hidden=[8]"),
    *("train.steps=2", "hydra.run.dir=run"),
)


def run(folder: Path, fates: str, *words: str) -> list[tuple[int, int]]:
    """Run the command with clients of certain fates; return clients and failures by round."""
    package = folder / "fates"
    package.mkdir()
    (package / "sitecustomize.py").write_text(FATES)
    path = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = {"FATES": fates, "FATES_FOLDER": str(package), "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-m", "fedcomp", *WORDS, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **told},
        timeout=900,
    )
    assert (done.returncode, without_ray(done.stderr)) == (0, []), done.stdout + done.stderr
    assert read_summary(folder / "run")["status"] == "finished"
    assert {path.name for path in package.iterdir()} >= {f.split("=")[0] for f in fates.split()}
    rows = read_csv(folder / "run" / "rounds.csv")
    return [(int(row["clients"]), int(row["failures"])) for row in rows][1:]


def test_processes_that_die_are_started_again(tmp_path: Path) -> None:
    """One dies with a message that it survives the second time, one dies of its message."""
    assert run(tmp_path, "2-1=dies-once 2-2=dies") == [(4, 0), (3, 1), (4, 0)]
    log = (tmp_path / "run" / "run.log").read_text()
    assert "round 2: site 2 failed: " in log
    assert "site 1 failed" not in log


@pytest.mark.soak
def test_a_client_that_hangs_does_not_keep_the_run_from_its_end(tmp_path: Path) -> None:
    found = run(tmp_path, "2-0=hangs", "engine.round_timeout=90", "engine.max_parallel=2")
    assert found == [(4, 0), (3, 1), (4, 0)]
    log = (tmp_path / "run" / "run.log").read_text()
    assert "round 2: site 0 failed: no answer within 90.0 s" in log
    assert "nobody waits for any more" in log
