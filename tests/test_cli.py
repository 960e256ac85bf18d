"""The commands as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from fedcomp import cli
from fedcomp.runtime import Hooks
from tests.common import QUICK, interrupt, read_csv, read_summary


def fedcomp(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedcomp", *arguments], cwd=cwd, capture_output=True, text=True
    )


def only_run(folder: Path) -> Path:
    (run,) = folder.glob("outputs/*/*")
    return run


def test_a_run_leaves_its_folder_and_prints_its_table(tmp_path: Path) -> None:
    done = fedcomp(*QUICK, "method=half", "strategy.fraction_evaluate=0.5", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    run = only_run(tmp_path)
    assert run.name.endswith("-half-digits")
    names = {path.name for path in run.iterdir()}
    assert names == {
        ".hydra", "rounds.csv", "packets.csv", "summary.json", "model.safetensors", "run.log",
            "partition.png", "curves.png", "checkpoint",
    }  # fmt: skip
    for word in ("round 2/2", "accuracy", "uplink", "downlink", "ratio", "time", str(run.name)):
        assert word in done.stdout
    summary = read_summary(run)
    rows = read_csv(run / "packets.csv")

    def packet_bytes(direction: str, *purposes: str) -> int:
        chosen = [r for r in rows if r["direction"] == direction and r["purpose"] in purposes]
        return sum(int(row["packet_bytes"]) for row in chosen)

    assert packet_bytes("uplink", "train", "side") == summary["uplink_bytes"]
    assert packet_bytes("downlink", "train", "side") == summary["downlink_bytes"]
    evaluation = packet_bytes("uplink", "evaluate") + packet_bytes("downlink", "evaluate")
    assert evaluation == summary["evaluation_bytes"] > 0
    assert sum(int(row["message_bytes"]) for row in rows) == summary["message_bytes"]
    assert summary["reference_bytes"] == 2 * 2 * 4 * 4 * summary["parameters"]
    rounds = read_csv(run / "rounds.csv")
    assert [row["round"] for row in rounds] == ["0", "1", "2"]
    for key in ("uplink_bytes", "downlink_bytes", "evaluation_bytes"):
        assert sum(int(row[key]) for row in rounds) == summary[key]
    assert float(rounds[-1]["accuracy"]) == summary["final_accuracy"]
    assert rounds[-1]["federated_accuracy"] != ""
    assert rounds[-1]["network_seconds"] == ""
    model = load_file(run / "model.safetensors")
    assert sum(value.size for value in model.values()) == summary["parameters"]


SUMMARY_KEYS = [
    "method", "dataset", "model", "parameters", "input_shape", "outputs", "clients", "rounds",
    "seed", "final_accuracy", "best_accuracy", "uplink_bytes", "downlink_bytes", "total_bytes",
    "evaluation_bytes", "reference_bytes", "compression_ratio", "message_bytes",
    "uplink_sparsity", "downlink_sparsity", "uplink_bits_per_weight", "downlink_bits_per_weight",
    "model_sparsity", "layer_sparsity", "model_bytes", "model_deflated_bytes",
    "model_packed_bytes", "bytes_to_target", "failures", "status", "wall_seconds",
    "versions",
]  # fmt: skip
ROUND_COLUMNS = [
    "round", "accuracy", "loss", "train_loss", "scales_accepted", "uplink_bytes",
    "downlink_bytes", "evaluation_bytes", "keyframe_bytes", "side_bytes", "clients",
    "failures", "encode_seconds", "decode_seconds", "train_seconds",
    "wall_seconds", "network_seconds", "uplink_sparsity", "downlink_sparsity",
    "uplink_bits_per_weight", "downlink_bits_per_weight", "uplink_header_bytes",
    "downlink_header_bytes", "uplink_side_bytes", "training_keyframe_bytes",
]  # fmt: skip
PACKET_COLUMNS = [
    "round", "client", "direction", "purpose", "kind", "codec", "payload_bytes", "packet_bytes",
    "message_bytes", "seconds",
]  # fmt: skip


def test_the_demanded_command_works_and_its_keys_are_the_contract(tmp_path: Path) -> None:
    words = ("engine=inline", "rounds=3", "clients=20", "partition=dirichlet", "strategy=fedadam")
    done = fedcomp(*words, "train.steps=2", "model=mlp", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    assert list(json.loads((run / "summary.json").read_text())) == SUMMARY_KEYS
    for name, columns in (("rounds.csv", ROUND_COLUMNS), ("packets.csv", PACKET_COLUMNS)):
        assert (run / name).read_text().splitlines()[0].split(",") == columns


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("rouns=3", "model=mpl"), "did you mean mlp?"),
        (("clients=5000",), "at most 1438 clients are possible"),
        (("strategy._target_=nobody.Home",), "cannot be imported"),
        (("engine.cpus_per_client=4096",), "lower it"),
        (("--verbose",), "--verbose: there is no such flag; see fedcomp --help"),
        (("seed=1,2",), "seed=1,2: names several values; a run takes one, fedcomp -m all"),
        (("sweep=methods",), "sweep=methods: is for a sweep of many runs; add -m"),
        (("sweep.parallel=2",), "sweep.parallel=2: is for a sweep of many runs; add -m"),
        (("-m", "seed=1,x"), "seed=x: Input should be a valid integer"),
        (("-m", "--cfg", "seed=1"), "--cfg -m: a sweep has many configurations; leave one out"),
    ],
)
def test_mistakes_end_before_anything_starts(
    arguments: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    done = fedcomp("engine=inline", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert all(line.startswith("fedcomp: ") for line in done.stderr.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_run_is_not_used_again(tmp_path: Path) -> None:
    words = (*QUICK, "hydra.run.dir=here")
    assert fedcomp(*words, cwd=tmp_path).returncode == 0
    again = fedcomp(*words, cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr == (
        "fedcomp: hydra.run.dir=here: holds a run already; name another folder, or go on with it"
        " by fedcomp resume=here\n"
    )


def test_help_version_and_composed_configuration(tmp_path: Path) -> None:
    text = fedcomp("--help", cwd=tmp_path).stdout
    assert "codec@uplink" in text
    assert fedcomp("--version", cwd=tmp_path).stdout.startswith("fedcomp 0.")
    assert "lr: 0.25" in fedcomp("--cfg", "train.lr=0.25", cwd=tmp_path).stdout


def test_ctrl_c_ends_cleanly_and_keeps_what_was_measured(tmp_path: Path) -> None:
    stdout = interrupt(tmp_path, *QUICK, "rounds=100000")
    assert "interrupted" in stdout
    run = only_run(tmp_path)
    assert len(read_csv(run / "rounds.csv")) == read_summary(run)["rounds"] + 1
    assert (run / "model.safetensors").is_file()


def test_report_compares_runs_and_explains_a_wrong_folder(tmp_path: Path) -> None:
    fedcomp(*QUICK, cwd=tmp_path)
    report = [sys.executable, "-c", "from fedcomp.report.cli import main; main()"]
    done = subprocess.run([*report, "outputs"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "fedavg" in done.stdout
    assert len(done.stdout.splitlines()) == 2
    wrong = subprocess.run([*report, "nowhere"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 1
    assert wrong.stderr == (
        "fedcomp-report: nowhere holds no summary.json: give the folder of a run, or one with runs"
        " below it\n"
    )


def test_an_interrupt_that_python_loses_still_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised in a destructor an exception goes nowhere, within an import it may abort."""
    monkeypatch.syspath_prepend(tmp_path)
    name = "interrupted_in_its_import"
    (tmp_path / f"{name}.py").write_text(
        "import signal\nsignal.raise_signal(signal.SIGINT)\nWHOLE = True\n"
    )

    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    hooks = Hooks()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with cli.interrupting(hooks):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            assert hooks.stop.is_set()
            hooks.stop.clear()
            dying = Dying()
            del dying  # nothing is printed: pytest would fail
            assert hooks.stop.is_set()
            hooks.stop.clear()
            assert import_module(name).WHOLE
            assert hooks.stop.is_set()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with cli.interrupting(Hooks()):
            signal.raise_signal(signal.SIGINT)  # still ignored
    finally:
        signal.signal(signal.SIGINT, before)
