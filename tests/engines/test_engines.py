from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fedcomp.config import compose_config
from fedcomp.engines import logs
from fedcomp.engines.flower import FlowerEngine, quiet_threads
from fedcomp.engines.inline import InlineEngine
from fedcomp.errors import ConfigError, EngineError
from fedcomp.link.ledger import ENTRY_FIELDS
from fedcomp.settings import Job
from fedcomp.setup import Setup
from fedcomp.wire import private
from tests.common import QUICK, read_csv, read_summary, run_inline, without_ray


def bytes_of(run: Path) -> tuple[list[list[str]], bytes]:
    """Return what two runs must have in common: all but times and Flower's random node ids."""
    rows = read_csv(run / "packets.csv")
    columns = [name for name in ENTRY_FIELDS if name not in ("message_bytes", "seconds")]
    packets = sorted([row[name] for name in columns] for row in rows)
    return packets, (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["fedavg", "half"])
def test_inline_twice_gives_identical_bytes(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import strategies.replies

    blobs: list[bytes] = []
    original = strategies.replies.blob_of

    def spy(record: object) -> bytes:
        blobs.append(original(record))  # type: ignore[arg-type]
        return blobs[-1]

    monkeypatch.setattr(strategies.replies, "blob_of", spy)
    first = bytes_of(run_inline(tmp_path / "a", f"method={method}"))
    sent, blobs = blobs, []
    assert bytes_of(run_inline(tmp_path / "b", f"method={method}")) == first
    assert blobs == sent
    assert len(blobs) == 8


def check_sums(run: Path) -> None:
    """Check that the rows of `packets.csv` add up to the rounds and to the summary."""
    rows, summary, rounds = (
        read_csv(run / "packets.csv"),
        read_summary(run),
        read_csv(run / "rounds.csv"),
    )
    for direction in ("uplink", "downlink"):
        parts = [
            row for row in rows if row["direction"] == direction and row["purpose"] != "evaluate"
        ]
        total = sum(int(row["packet_bytes"]) for row in parts)
        assert total == summary[f"{direction}_bytes"] > 0
        assert total == sum(int(row[f"{direction}_bytes"]) for row in rounds)
    assert sum(int(row["message_bytes"]) for row in rows) == summary["message_bytes"]


FLOWER = ("engine=flower", "clients=3", "rounds=3", "train.steps=2", "fraction=0.67")
SPARSE = ("codec@uplink=topk", "codec@downlink=topk", "link.verify=true")


def test_flower_gives_the_same_bytes_as_inline(tmp_path: Path) -> None:
    """One real run on Ray, from the command line, and the same in this process."""
    words = [*FLOWER, *SPARSE, "rounds=5"]
    done = subprocess.run(
        [sys.executable, "-m", "fedcomp", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, without_ray(done.stderr)) == (0, []), done.stdout + done.stderr
    assert "Sampled" not in done.stdout
    assert "raylet" not in done.stdout  # Ray would print failed ends of clients there
    (run,) = tmp_path.glob("outputs/*/*")
    assert "Sampled 2 nodes (out of 3)" in (run / "run.log").read_text()
    inline = run_inline(tmp_path / "inline", "engine=inline", quick=words[1:])
    assert bytes_of(run) == bytes_of(inline)
    kinds = {row["kind"] for row in read_csv(run / "packets.csv")}
    assert {"held", "delta", "chain"} <= kinds
    for folder in (run, inline):
        check_sums(folder)
    assert not (run / "state").exists()


def test_a_worker_that_dies_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    """It dies of every message, as often as it is started; the run must not go on for ever."""
    package = tmp_path / "killer"
    package.mkdir()
    (package / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'default_worker.py' in ' '.join(sys.orig_argv):\n"
        "    import threading\n"
        "    def kill():\n"
        "        import time\n"
        "        while 'clients.local' not in sys.modules: time.sleep(0.01)\n"
        "        os._exit(9)\n"
        "    threading.Thread(target=kill, daemon=True).start()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "fedcomp", *FLOWER, "engine.start_timeout=20"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(package)},
        timeout=600,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (ours,) = without_ray(done.stderr)
    assert ours.startswith("fedcomp: ")
    told = ("Unavailable", "died", "engine.start_timeout", "restart")
    assert any(words in ours for words in told), done.stderr


def test_engines_refuse_what_the_machine_cannot_give(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"engine\.cpus_per_client=4096: this machine has"):
        InlineEngine(cpus_per_client=4096).check()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    FlowerEngine(gpus_per_client=0.5).check()
    with pytest.raises(ConfigError, match=r"engine\.gpus_per_client=2: this machine has 1 GPUs"):
        FlowerEngine(gpus_per_client=2).check()


@pytest.mark.parametrize(
    ("cores", "engine", "actors"),
    [
        (8, FlowerEngine(), 8),
        (8, FlowerEngine(cpus_per_client=3), 2),
        (8, FlowerEngine(max_parallel=3), 3),
        (2, FlowerEngine(max_parallel=9), 2),
    ],
)
def test_defaults_fill_the_machine_without_oversubscribing(
    cores: int, engine: FlowerEngine, actors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedcomp.engines.flower.cpu_count", lambda: cores)
    backend = engine._backend("cpu", verbose=False)
    total = backend["init_args"]["num_cpus"]
    assert total // backend["client_resources"]["num_cpus"] == actors
    assert total <= cores


def test_clients_that_never_come_end_the_wait(tmp_path: Path) -> None:
    from threading import Event

    from fedcomp.link.ledger import Ledger
    from strategies.handshake import meet

    class Empty:
        def get_node_ids(self) -> list[int]:
            return [7]

    ledger = Ledger(Setup(Job(compose_config([*QUICK]), "x", str(tmp_path)).settings).manifest)
    with pytest.raises(EngineError, match=r"1 of 4 clients are connected after 0\.1 s"):
        meet(Empty(), 4, ledger, Event(), 0.1)  # type: ignore[arg-type]


def test_message_sizes_are_those_of_protobuf() -> None:
    private.assume_identity()

    def size(payload: bytes) -> int:
        content = RecordDict({"x": ConfigRecord({"b": payload})})
        return private.message_bytes(Message(content, 1, "train"))

    assert size(bytes(100)) - size(bytes(50)) == 50
    assert 50 < size(bytes(1)) < 200


def test_an_unsupported_flower_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import flwr.supercore.task_identity as module

    monkeypatch.delattr(module, "TaskIdentity")
    with pytest.raises(EngineError, match=r"supported are versions 1\.41 and 1\.42: pip install"):
        private.check()


def test_messages_go_to_the_file_and_come_back_after(tmp_path: Path) -> None:
    import logging

    flower = logging.getLogger("flwr")
    before = (flower.handlers, flower.propagate, flower.level)
    with logs.logging_to(tmp_path / "run.log", verbose=False):
        flower.info("from flower")
        logging.getLogger("strategies.grid").warning("from us")
        assert len(flower.handlers) == 1
    assert (flower.handlers, flower.propagate, flower.level) == before
    text = (tmp_path / "run.log").read_text()
    assert "INFO flwr: from flower" in text
    assert "WARNING strategies.grid: from us" in text


def test_federated_evaluation_of_a_held_version_costs_a_header(tmp_path: Path) -> None:
    run = run_inline(tmp_path, "method=half", "strategy.fraction_evaluate=1.0", "rounds=3")
    rows = read_csv(run / "packets.csv")
    trained = [r for r in rows if r["purpose"] == "train" and r["direction"] == "downlink"]
    assert {row["kind"] for row in trained} == {"held"}
    assert all(int(row["packet_bytes"]) <= 200 for row in trained)
    evaluated = [r for r in rows if r["purpose"] == "evaluate" and r["direction"] == "downlink"]
    assert {row["kind"] for row in evaluated} == {"delta"}
    assert read_summary(run)["evaluation_bytes"] > 0


def test_threads_that_lose_their_processes_break_down_in_silence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # put back afterwards
    quiet_threads()
    thread = threading.Thread(target=lambda: 1 // 0)
    thread.start()
    thread.join()
    assert capfd.readouterr().err == ""


def test_ctrl_c_during_rays_start_leaves_no_process(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fedcomp", "engine=flower"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    watched = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while len(watched.children(recursive=True)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    children = watched.children(recursive=True)
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert (process.returncode, stderr) == (130, "")
    assert len(children) >= 3
    assert psutil.wait_procs(children, timeout=5)[1] == []


@pytest.mark.parametrize(
    ("given", "device", "gpus", "expected"),
    [(None, "auto", 1, 0.25), (None, "cpu", 1, 0.0), (None, "auto", 0, 0.0), (None, "auto", 9, 2.0),
     (0.5, "auto", 1, 0.5)],
)  # fmt: skip
def test_clients_share_the_gpus(
    given: float | None, device: str, gpus: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedcomp.engines.flower.cpu_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    backend = FlowerEngine(gpus_per_client=given)._backend(device, verbose=False)
    assert backend["client_resources"]["num_gpus"] == expected
