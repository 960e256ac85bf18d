"""Mistakes end before anything starts, and an interrupt leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from fedcomp.config import compose_file
from fedcomp.quantise.cli import main
from fedcomp.quantise.settings import QuantiseSettings

MLP = ("model=mlp", "model.hidden=[64]", "train.device=cpu")


def problems(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("fedcomp-quantise: ") for line in lines)
    return [line.removeprefix("fedcomp-quantise: ") for line in lines]


def test_the_file_lists_all_settings_with_their_defaults() -> None:
    found: list[str] = []
    values = compose_file("quantise", [], found)
    assert values == asdict(QuantiseSettings("x")) | {"checkpoint": None}
    assert not found


def test_all_mistakes_are_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    found = problems(
        capsys, "bits=9", "bitz=3", "dataset=digitz", "train.lr=1", "relevance.momentum=2",
        "train.device=tpu", "clients=3", "lr=fast", "relevance.evry=2",
        "share=0.9,1", "validation=0",
    )  # fmt: skip
    text = "\n".join(found)
    for part in (
        "bits=9: Input should be less than or equal to 8",
        "bitz=3: fedcomp-quantise has no key bitz; did you mean bits?",
        "dataset=digitz: there is no such option; did you mean digits?",
        "train.lr=1: fedcomp-quantise does not read it; lr is a key of its own; of train it reads",
        "train.device=tpu: Input should be",
        "clients=3: fedcomp-quantise has no key clients",
        "lr=fast: Input should be a valid number",
        "share=0.9,1: names several values",
        "validation=0: Input should be greater than 0",
        "checkpoint: is missing",
        "relevance.evry=2: there is no key relevance.evry; did you mean every?",
    ):
        assert part in text
    assert len(found) == 12


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("checkpoint=nowhere.pt",), "nowhere.pt does not exist: name a file of safetensors or a"),
        (("checkpoint=x", "--verbose"), "--verbose: there is no such flag"),
        (("checkpoint=x", "quantiser=deepcabac", "epochs=2"), "deepcabac does not train"),
        (("checkpoint=x", "out=."), "out=.: holds something already"),
    ],
)
def test_a_mistake_is_explained(
    words: tuple[str, ...],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    (found,) = problems(capsys, *words)
    assert expected in found
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_checkpoint_of_another_net_is_refused(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = problems(capsys, f"checkpoint={checkpoint}", "model=small_cnn")
    assert found.startswith(f"checkpoint={checkpoint}: 10 of the tensors do not fit the model: ")
    state = load_file(checkpoint)
    state["3.weight"], state["3.bias"] = torch.zeros(4, 64), torch.zeros(4)
    torch.save(state, "four.pt")  # the head of another number of classes
    (found,) = problems(capsys, "checkpoint=four.pt", *MLP)
    assert "3.weight (given (4, 64), expected (10, 64))" in found
    (tmp_path / "torn.pt").write_bytes(b"torn")
    (found,) = problems(capsys, "checkpoint=torn.pt", *MLP)
    assert found.startswith("checkpoint=torn.pt: is damaged, or holds more than tensors")


def test_the_command_takes_a_state_dict_and_leaves_its_folder(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    state = load_file(checkpoint)
    torch.save({"state_dict": {f"module.{n}": v for n, v in state.items()}}, "net.pt")
    with pytest.raises(SystemExit) as end:
        main(["checkpoint=net.pt", *MLP, "quantiser=nearest", "seed=3"])
    assert end.value.code == 0
    (folder,) = tmp_path.glob("outputs/quantise/*/*")
    assert folder.name.endswith("-nearest-digits")
    assert {path.name for path in folder.iterdir()} == {
        *("model.nnc", "model.safetensors", "quantise.json", "config.yaml"),
        *("relevance.png", "heatmaps.png"),
    }  # fmt: skip
    assert len(list(folder.parent.iterdir())) == 1
    found = json.loads((folder / "quantise.json").read_text())
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["quantise"] == found["settings"]
    assert (config["seed"], config["model"]["hidden"]) == (3, [64])
    text = capsys.readouterr().out
    before, after = found["before"]["test"]["accuracy"], found["after"]["test"]["accuracy"]
    parts = (f"{before:.4f} → {after:.4f}", f"{found['ratio']:.2f} ×", "1.weight", "64 × 64")
    for part in (*parts, str(folder.relative_to(tmp_path))):
        assert part in text
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    (problem,) = problems(capsys, "checkpoint=net.pt", f"out={folder}")
    assert problem.endswith("holds something already; name another folder")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_help_explains_all_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name}:" in text for name in asdict(QuantiseSettings("x")))
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("fedcomp-quantise 0.")


def test_ctrl_c_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={checkpoint}", *MLP, "quantiser=ecq", "epochs=99999", "patience=99999"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", "from fedcomp.quantise.cli import main; main()", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    while "epoch 1" not in process.stdout.readline():
        assert process.poll() is None
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert (process.returncode, stderr) == (130, "")
    assert stdout.endswith("interrupted\n")
    assert list(tmp_path.iterdir()) == []
