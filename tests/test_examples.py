"""A codec, a method and a data set of another package, as the first page gives them."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedcomp.codecs import CODECS
from fedcomp.config import compose_config
from fedcomp.data import DATASETS
from fedcomp.errors import ConfigError
from fedcomp.methods import RECIPES
from fedcomp.settings import Job
from fedcomp.setup import Setup
from tests.common import QUICK, check_codec, context_for, read_summary, run_inline
from tests.guide import ROOT, commands

FIRST = ROOT / "README.md"
MOST_LINES = 40


def examples() -> list[dict[str, str]]:
    """Return the files of each example, by the names in their first lines."""
    parts = re.findall(r"<details>.*?</details>", FIRST.read_text("utf-8"), re.S)
    return [_files(part) for part in parts]


def _files(text: str) -> dict[str, str]:
    blocks = re.findall(r"^```(?:python|yaml|toml)\n# (\S+)\n(.*?)^```$", text, re.M | re.S)
    return dict(blocks)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a package with all examples, beside the folder of its wheel's files."""
    root = tmp_path_factory.mktemp("theirs")
    for name, content in _files(FIRST.read_text("utf-8")).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, "utf-8")
    (root / "mine" / "__init__.py").touch()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root / "dist")],
        cwd=root,
        check=True,
        capture_output=True,
    )
    (wheel,) = (root / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(root / "site")
    return root


@pytest.fixture
def installed(package: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the package's folder; its wheel is installed while a test runs."""
    monkeypatch.syspath_prepend(str(package / "site"))
    for registry in (CODECS, RECIPES, DATASETS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_entry_points_read", False)
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        monkeypatch.delitem(sys.modules, name)
    return package


def test_there_is_an_example_of_each_kind() -> None:
    kinds = [sorted({Path(name).parts[-2] for name in files}) for files in examples()]
    assert kinds == [["codec", "mine"], ["method", "mine", "recipe"], ["dataset", "mine"]]


@pytest.mark.parametrize("files", examples(), ids=lambda files: next(iter(files)))
def test_an_example_is_short(files: dict[str, str]) -> None:
    lines = [line for text in files.values() for line in text.splitlines()]
    assert len(lines) < MOST_LINES
    assert max(map(len, lines)) <= 100


def test_without_the_package_the_codec_is_unknown(package: Path) -> None:
    with pytest.raises(ConfigError, match="twn"):
        run_inline(package, *search(package), "codec@uplink=twn")


def search(package: Path) -> list[str]:
    return [f"hydra.searchpath=['file://{package / 'conf'}']"]


def test_a_codec_of_another_package(installed: Path, tmp_path: Path) -> None:
    run = run_inline(tmp_path, *search(installed), "codec@uplink=twn", "uplink.times=0.5")
    assert (run / "packets.csv").read_text("utf-8").count(",twn,") == 8
    check_codec(CODECS.get("twn")())  # type: ignore[call-arg]
    check_codec(CODECS.get("twn")(mode="absolute"))


def test_a_codec_of_another_package_does_what_it_says(installed: Path) -> None:
    values = np.array([[3.0, -1.0], [0.5, -5.0]], np.float32)  # 0.7 of the mean: 1.6625
    codec, context = CODECS.get("twn")(), context_for({"w": values})  # type: ignore[call-arg]
    decoded = codec.decode(codec.encode({"w": values}, context), context)["w"]
    assert decoded.tolist() == [[4.0, 0.0], [0.0, -4.0]]


def test_a_method_of_another_package(installed: Path, tmp_path: Path) -> None:
    words = ["codec@uplink=none", "codec@downlink=none", "clients=1", "rounds=1", "train.steps=1"]
    averaged = run_inline(tmp_path / "mean", *search(installed), *words, "method=averaged")
    last = run_inline(tmp_path / "last", *words)
    assert read_summary(averaged)["method"] == "averaged"
    start = Setup(Job(compose_config([*QUICK, *words]), "test", "").settings).take_initial()
    mean, end = (load_file(run / "model.safetensors") for run in (averaged, last))
    assert mean.keys() == end.keys() == start.keys()
    assert any((start[name] != end[name]).any() for name in end)
    for name, value in mean.items():
        np.testing.assert_allclose(value, (start[name] + end[name]) / 2, atol=1e-6)


def test_a_data_set_of_another_package(installed: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays: dict[str, Any] = {
        f"x_{part}": rng.random((40, 2, 4, 4), np.float32) for part in ("train", "test")
    }
    arrays |= {f"y_{part}": np.arange(40) % 3 for part in ("train", "test")}
    np.savez(tmp_path / "some.npz", **arrays)
    words = ["dataset=npz", "dataset.path=some.npz", f"data_dir={tmp_path}"]
    run = run_inline(tmp_path / "run", *search(installed), *words)
    summary = read_summary(run)
    assert (summary["input_shape"], summary["outputs"]) == ([2, 4, 4], 3)


def test_the_command_of_the_first_page_chooses_them(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (words,) = (
        words[1:]
        for words in commands("sh", FIRST)
        if words[0] == "fedcomp" and words[1].startswith("hydra.searchpath=")
    )
    x, y = np.zeros((20, 1, 8, 8), np.float32), np.arange(20) % 2
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.chdir(installed)
    run = run_inline(tmp_path / "run", *words, f"data_dir={tmp_path}")
    summary = read_summary(run)
    assert (summary["method"], summary["dataset"]) == ("averaged", "npz")
    assert ",twn," in (run / "packets.csv").read_text("utf-8")
