"""Short runs on tiny sets in each layout: data, partition, model and task fit together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedcomp.cli import prepare
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError
from tests.common import read_csv, read_summary, run_inline
from tests.data.small_images import write_cifar10
from tests.data.test_folder import folder_of, xrays
from tests.data.test_speech import digits
from tests.data.test_voc import write_voc

SHORT = ("engine=inline", "clients=2", "rounds=1", "train.steps=1", "dataset.validation=0")


def run(tmp_path: Path, *words: str) -> dict[str, str]:
    run_inline(tmp_path / "run", f"data_dir={tmp_path}", *words, quick=SHORT)
    summary = read_summary(tmp_path / "run")
    assert summary["status"] == "finished"
    return read_csv(tmp_path / "run" / "rounds.csv")[-1] | {"best": str(summary)}


def test_colour_images(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    words = ("dataset=cifar10", "dataset.verify=false", "dataset.augment.cutout=8")
    found = run(tmp_path, *words, "dataset.augment.jitter=0.4", "model=vgg11s")
    assert 0 <= float(found["accuracy"]) <= 1


def test_patients_on_a_net_of_torchvision(tmp_path: Path) -> None:
    xrays(tmp_path)
    words = ("dataset=chest_xray", "dataset.size=32", "dataset.channels=3", "partition=natural")
    words = (*words, "method=fedavg")
    found = run(tmp_path, *words, "model=mobilenet_v2", "train.parameters=head")
    assert "'parameters': 2562" in found["best"]  # 1280 · 2 + 2: the rest stays frozen


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    folder_of(tmp_path / "mine")
    run(tmp_path, "dataset=folder", "dataset.path=mine", "dataset.size=8", "partition=shards")


def test_many_labels(tmp_path: Path) -> None:
    write_voc(tmp_path)
    words = ("dataset=voc", "dataset.size=16", "dataset.augment.crop=2")
    found = run(tmp_path, *words, "model=small_cnn", "strategy.fraction_evaluate=1.0")
    assert 0 <= float(found["map"]) <= 1
    assert 0 <= float(found["federated_map"]) <= 1
    assert "final_map" in found["best"]


def test_segments(tmp_path: Path) -> None:
    write_voc(tmp_path)
    words = ("dataset=voc_seg", "dataset.size=16", "dataset.augment.crop=2", "model=small_unet")
    found = run(tmp_path, *words, "train.batch_size=2")
    assert 0 <= float(found["miou"]) <= 1
    assert 0 <= float(found["pixel_accuracy"]) <= 1


def test_words(tmp_path: Path) -> None:
    digits(tmp_path / "fsdd")
    words = ("dataset=speech_commands", "dataset.path=fsdd", "partition=natural")
    run(tmp_path, *words, "dataset.seconds=0.3", "model=small_cnn")


def test_a_model_for_another_task_is_refused(tmp_path: Path) -> None:
    write_voc(tmp_path)
    for words, shape in (
        (("dataset=voc_seg", "dataset.size=16", "model=small_cnn"), r"\(21,\).*\(21, 16, 16\)"),
        (("dataset=voc", "dataset.size=16", "model=small_unet"), r"\(20, 16, 16\).*\(20,\)"),
    ):
        config = compose_config([*SHORT, f"data_dir={tmp_path}", *words])
        with pytest.raises(ConfigError, match=f"{shape}; choose a model for that"):
            prepare(config)


def test_each_run_names_what_it_leaves_out(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "mine")
    for at in range(7):
        (root / f"cat/x{at}.png").write_bytes(b"no image")
    words = (*SHORT, "dataset=folder", "dataset.path=mine", "dataset.skip_corrupt=true")
    for place in ("first", "second"):
        done = subprocess.run(
            [sys.executable, "-m", "fedcomp", *words, "data_dir=.", f"hydra.run.dir={place}"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        decoding = "fedcomp: decoding to .fedcomp/folder-"
        assert (decoding in done.stderr) == (place == "first"), done.stderr
        assert "7 samples are left out (dataset.skip_corrupt), see run.log:\n  cat/x" in done.stdout
        assert done.stdout.count(".png: cannot be decoded as an image") == 5
        log = (tmp_path / place / "run.log").read_text()
        assert log.count("left out: cat/x") == log.count(": cannot be decoded") == 7
