"""Several jobs at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

import psutil
import pytest

from fedcomp.resume import alone
from fedcomp.runtime import CORES, cpu_count
from fedcomp.sweep import child
from fedcomp.sweep import plan as planning
from fedcomp.sweep.plan import plan
from fedcomp.sweep.run import sweep
from tests.common import QUICK, read_csv, run_inline
from tests.sweep.conftest import started, sweep_interrupted

PARALLEL = "sweep.parallel=2"


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be five cores."""
    for module in (planning, child):
        monkeypatch.setattr(module, "cpu_count", lambda: 5)


@pytest.mark.usefixtures("cores")
def test_so_many_jobs_run_at_a_time_and_no_more(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOGETHER", "3")  # each waits for two others, and minds a fourth
    assert sweep(["seed=11,12,13,14,15", "sweep.parallel=3"]) == 0
    assert [row["status"] for row in read_csv(stub / "sweep.csv")] == ["finished"] * 5
    shown = capfd.readouterr()
    assert shown.err == ""
    begun = [line for line in shown.out.splitlines() if line.startswith("job ")]
    assert begun[:3] == [f"job {n} of 5: seed={10 + n}" for n in (1, 2, 3)]
    ended = sorted(line for line in begun if ": finished: " in line)
    assert ended[0] == "job 1 of 5: seed=11: finished: accuracy 0.5000  2 B  1.0 s"
    assert len(ended) == 5


@pytest.mark.usefixtures("cores")
def test_what_jobs_print_goes_to_their_folders(
    stub: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REASON", "Traceback\nfedcomp: no data\nmore")
    assert sweep(["seed=1,3,4", PARALLEL]) == 2
    shown = capfd.readouterr()
    assert "another one" not in shown.out + shown.err
    one, three, four = (job.folder(stub) for job in plan(["seed=1,3,4"]).jobs)
    assert (one / "output.txt").read_text() == "one line\nanother one\n"
    place = three.relative_to(stub.parents[1])
    assert shown.err.splitlines() == [
        "fedcomp: 2 of 3 jobs failed",
        f"fedcomp: seed=3: exit code 1: no data, see {place}/output.txt",
        f"fedcomp: seed=4: SIGKILL, see {four.relative_to(stub.parents[1])}/output.txt",
    ]
    assert "job 2 of 3: seed=3: failed: exit code 1: no data" in shown.out.splitlines()


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("parallel", [1, 2])
def test_each_job_has_its_share_of_the_cores_but_what_the_user_sets_stays(
    parallel: int, stub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (CORES, "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert sweep(["seed=1,2", f"sweep.parallel={parallel}"]) == 0
    share = "2" if parallel == 2 else None
    for path in stub.glob("*/threads"):
        assert json.loads(path.read_text()) == {
            "FEDCOMP_CORES": share,
            "OMP_NUM_THREADS": "7",
            "OPENBLAS_NUM_THREADS": share,
            "NUMBA_NUM_THREADS": share,
        }


def test_a_run_uses_no_more_cores_than_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CORES, raising=False)
    here = cpu_count()
    for given, expected in (("1", 1), ("100000", here), ("0", 1), ("x", here), ("", here)):
        monkeypatch.setenv(CORES, given)
        assert cpu_count() == expected


@pytest.mark.usefixtures("cores")
def test_an_interrupt_ends_all_that_run(
    stub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "STOP_SECONDS", 0.5)

    sweep_interrupted(["seed=9", "rounds=1,2,3", PARALLEL], tmp_path)
    assert len(list(stub.glob("rounds-*/interrupted"))) == 2
    last = capfd.readouterr().out.splitlines()[-1]
    assert last == "0 of 3 jobs have finished, the same command goes on"


SWEEP = """
import sys
from fedcomp.sweep import plan, child, run
plan.cpu_count = child.cpu_count = lambda: 5
run._command = lambda: [sys.executable, "stub.py"]
run.sweep(sys.argv[1:])
"""


@pytest.mark.usefixtures("cores")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends processes with their parent")
def test_a_sweep_that_is_killed_leaves_nothing_that_blocks_the_next(
    stub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["seed=9", "rounds=1,2,3", PARALLEL]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", SWEEP, *words], env=environment)
    try:
        while len(found := list(tmp_path.glob("here-*"))) < 2:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    for path in found:  # its jobs end with it
        with suppress(psutil.NoSuchProcess):
            psutil.Process(int(path.name.partition("-")[2])).wait(20)
    assert [row["status"] for row in read_csv(stub / "sweep.csv")] == [
        "running", "running", "planned",
    ]  # fmt: skip
    monkeypatch.setenv("SLEEP", "0")
    assert sweep(words) == 0
    assert [row["status"] for row in read_csv(stub / "sweep.csv")] == ["finished"] * 3


@pytest.mark.usefixtures("cores")
def test_a_run_that_outlived_its_sweep_is_waited_for_while_others_go_on(
    stub: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = plan(["seed=1,2"]).jobs
    folder = one.folder(stub)
    folder.mkdir(parents=True)
    failed: list[int] = []
    other = Thread(target=lambda: failed.append(sweep(["seed=1,2"])))
    with alone(folder):
        other.start()
        deadline = time.monotonic() + 20
        while not (two.folder(stub) / "summary.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert started(tmp_path) == ["seed=2"]
        (folder / "summary.json").write_text(os.environ["SUMMARY"])
    other.join(20)
    assert failed == [0]
    assert started(tmp_path) == ["seed=2"]
    lines = capfd.readouterr().out.splitlines()
    place = folder.relative_to(tmp_path)
    assert lines[:2] == [
        f"job 1 of 2: seed=1: another process is at {place}, waiting for that",
        "job 2 of 2: seed=2",
    ]
    assert f"job 1 of 2: seed=1: finished before, in {place}" in lines
    assert [row["status"] for row in read_csv(stub / "sweep.csv")] == ["finished"] * 2


@pytest.mark.skipif(cpu_count() < 2, reason="there is one core")
def test_results_are_the_same_to_the_bit_with_any_number_at_a_time(tmp_path: Path) -> None:
    words = [*QUICK, "hydra.run.dir=here", "seed=1,2", PARALLEL]
    command = [sys.executable, "-m", "fedcomp", "-m", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for row in read_csv(tmp_path / "here" / "sweep.csv"):
        run = tmp_path / "here" / row["folder"]
        alone = run_inline(tmp_path / row["seed"], f"seed={row['seed']}")
        model = (run / "model.safetensors").read_bytes()
        assert model == (alone / "model.safetensors").read_bytes()
        timeless = [
            [
                {name: cell for name, cell in line.items() if not name.endswith("_seconds")}
                for line in read_csv(folder / "rounds.csv")
            ]
            for folder in (run, alone)
        ]
        assert timeless[0] == timeless[1]
        assert "round 2/2" in (run / "output.txt").read_text()
