"""What the server owns: inputs as the clients have them, and the same each time."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fedcomp.config import compose_config
from fedcomp.data.base import Dataset, DatasetSettings, Samples
from fedcomp.data.chest_xray import ChestXRay
from fedcomp.data.cifar import Cifar10
from fedcomp.data.dead_leaves import DeadLeaves
from fedcomp.data.digits import Digits
from fedcomp.data.files import below
from fedcomp.data.image_files import Fit
from fedcomp.data.likeness import likened
from fedcomp.data.log_mel import LogMel
from fedcomp.data.mnist import FashionMnist
from fedcomp.data.server_data import Source
from fedcomp.data.speech_commands import SpeechCommands
from fedcomp.data.wav import read_wav
from fedcomp.errors import ConfigError, DataError
from fedcomp.settings import Settings, parse
from fedcomp.setup import Setup
from fedcomp.tensors import Array
from tests.common import QUICK
from tests.data.small_images import write_cifar10, write_cifar100, write_idx
from tests.data.test_folder import xrays
from tests.data.test_image_files import picture
from tests.data.test_speech import RATE, digits, tone, write


@cache
def base() -> Settings:
    return parse(compose_config([*QUICK]))


def setup(folder: Path, dataset: DatasetSettings | None = None, **changes: Any) -> Setup:
    given = {"data_dir": str(folder), "dataset": dataset or Digits(), **changes}
    return Setup(replace(base(), **given))


def cifar(folder: Path, source: str = "synthetic", **changes: Any) -> Setup:
    if not (folder / "cifar-10-batches-py").exists():
        write_cifar10(folder)
    return setup(folder, Cifar10(verify=False, server_data=source), **changes)


def speech(folder: Path, source: str = "synthetic") -> Setup:
    if not (folder / "fsdd").exists():
        digits(folder / "fsdd")
    return setup(folder, SpeechCommands(path="fsdd", mels=10, seconds=0.5, server_data=source))


def check(here: Setup, count: int, expected: int | None = None) -> Array:
    """Check that samples look like those of the clients, and return their inputs."""
    samples, train = here.server_samples(count), here.dataset.train
    assert len(samples) == (count if expected is None else expected)
    assert samples.inputs.shape[1:] == train.inputs.shape[1:]
    assert samples.inputs.dtype == train.inputs.dtype
    assert samples.preparation == train.preparation
    assert samples.targets.dtype == np.int64
    assert not samples.targets.any()
    again = Setup(here.settings).server_samples(count)
    np.testing.assert_array_equal(samples.inputs, again.inputs)
    return samples.inputs


def test_synthetic_images_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gray, colour = check(setup(tmp_path), 300), check(cifar(tmp_path), 30)
    assert (gray.min(), gray.max(), colour.min(), colour.max()) == (0, 1, 0, 255)
    other = setup(tmp_path, seed=99).server_samples(300).inputs
    assert not np.array_equal(gray, other)
    assert len(list(tmp_path.glob(".fedcomp/server_data-*"))) == 3
    monkeypatch.setattr(DeadLeaves, "__call__", None)
    np.testing.assert_array_equal(setup(tmp_path).server_samples(300).inputs, gray)
    with pytest.raises(TypeError):
        setup(tmp_path).server_samples(301)


def test_synthetic_words(tmp_path: Path) -> None:
    found = check(speech(tmp_path), 40)
    assert len(np.unique(found, axis=0)) == 40
    silent = np.log(1e-6)
    assert found.min() == pytest.approx(silent)
    assert found.max() > silent + 8
    assert speech(tmp_path).dataset.rate == RATE


def test_another_data_set_of_the_same_form(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    here = cifar(tmp_path, "cifar100")
    found = {image.tobytes() for image in check(here, 100, 7)}
    path = tmp_path / "cifar-100-python" / "train"
    assert len(found) == 7
    some = {image.tobytes() for image in check(here, 3)}
    assert len(some) == 3
    assert some < found
    path.unlink()
    with pytest.raises(
        DataError, match=r"server_data=cifar100: cifar100: not found under data_dir"
    ):
        here.server_samples(3)


def test_other_data_sets_are_brought_to_the_clients_form(tmp_path: Path) -> None:
    write_idx(tmp_path, "FashionMNIST")
    colours = check(cifar(tmp_path, "fashion_mnist"), 6)
    np.testing.assert_array_equal(colours[:, 0], colours[:, 1])
    np.testing.assert_array_equal(colours[:, 0], colours[:, 2])
    gray = check(setup(tmp_path, FashionMnist(verify=False, server_data="cifar10")), 20)
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]
    whole = Cifar10(verify=False).load(tmp_path).train.inputs
    expected = (whole * weights).sum(axis=1).mean(axis=(1, 2))  # sizes leave means nearly alone
    np.testing.assert_allclose(gray.mean(axis=(1, 2, 3)), expected, atol=3)
    few = check(setup(tmp_path, FashionMnist(verify=False, server_data="digits")), 5)
    assert few.max() > 100


def test_images_in_another_form() -> None:
    rng = np.random.default_rng(0)
    bytes_ = rng.integers(0, 256, (5, 3, 6, 6), dtype=np.uint8)
    floats = likened(bytes_, (3, 6, 6), "float32")
    np.testing.assert_allclose(floats, bytes_ / 255, rtol=1e-6)
    np.testing.assert_array_equal(likened(floats, (3, 6, 6), "uint8"), bytes_)
    board = np.indices((32, 32)).sum(axis=0)[None, None] % 2 * np.float32(1)
    small = likened(board, (1, 8, 8), "float32")[..., 1:-1, 1:-1]
    np.testing.assert_allclose(small, 0.5, atol=0.02)  # a pixel in four would be all 0 or all 1
    np.testing.assert_array_equal(likened(bytes_, (3, 6, 6), "uint8"), bytes_)
    luma = (0.299 * floats[:, 0] + 0.587 * floats[:, 1] + 0.114 * floats[:, 2])[:, None]
    np.testing.assert_allclose(likened(bytes_, (1, 6, 6), "float32"), luma, rtol=1e-5)
    for shape in ((2, 6, 6), (6, 6)):
        with pytest.raises(DataError, match=r"\(3, 6, 6\) cannot be brought to"):
            likened(bytes_, shape, "uint8")


def test_a_folder_of_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "mine"
    for value in range(20, 220, 20):
        picture(root / ("a" if value < 100 else "b/c") / f"{value}.png", (value, value, value))
    (root / "b" / "notes.txt").write_text("no image")
    found = check(cifar(tmp_path, "folder:mine"), 40, 10)
    assert sorted(found[:, 1, 5, 5]) == list(range(20, 220, 20))
    assert not caplog.records
    (root / "a" / "20.png").write_bytes(b"damaged")
    (root / "b" / "bad.jpg").write_bytes(b"")
    assert len(check(cifar(tmp_path, f"folder:{root}"), 40, 9)) == 9
    text = "2 of 11 files cannot be used and are left out, the first: "
    assert [text in record.getMessage() for record in caplog.records] == [True, True]
    some = check(cifar(tmp_path, "folder:mine"), 9)
    np.testing.assert_array_equal(np.sort(some[:, 0, 0, 0]), range(40, 220, 20))
    few = [check(cifar(tmp_path, "folder:mine", seed=seed), 4) for seed in (1, 2)]
    assert not np.array_equal(few[0], few[1])
    mine = Digits(server_data="folder:mine")
    gray = check(setup(tmp_path, mine), 4)
    assert set((gray * 255).round().ravel().astype(int)) <= set(range(40, 220, 20))


def test_folders_without_images(tmp_path: Path) -> None:
    def refused(what: str) -> None:
        with pytest.raises(DataError, match=rf"dataset\.server_data=folder:mine: {what}"):
            setup(tmp_path, Digits(server_data="folder:mine")).server_samples(3)

    refused(r"there is no folder .*mine \(data_dir=.*put images there")
    (tmp_path / "mine" / "sub").mkdir(parents=True)
    refused(r"no file of images lies in .*mine or below \(\.bmp, .*\.webp\)")
    (tmp_path / "mine" / "sub" / "a.png").write_bytes(b"damaged")
    refused(r"none of its 1 files can be read; the first: sub/a\.png: cannot be decoded")


def test_links_to_folders_and_pipes_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for path in (tmp_path / "a" / "b", tmp_path / ".hidden", tmp_path / "c"):
        path.write_text("")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "endless")
    assert below(tmp_path) == [tmp_path / "a" / "b", tmp_path / "c"]


def test_what_is_no_image_has_no_synthetic_ones() -> None:
    vectors = Samples(np.zeros((3, 64), np.float32), np.zeros(3, np.int64))
    dataset = Dataset(vectors, vectors, 10, "classification")
    for ask in (Digits().synthesiser, Digits().reader):
        with pytest.raises(DataError, match=r"have the shape \(64,\) and are no images"):
            ask(dataset)


def test_a_folder_of_recordings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = speech(tmp_path, "folder:talk")
    write(tmp_path / "talk" / "long.wav", tone(500, 2))
    write(tmp_path / "talk" / "x" / "short.WAV", tone(900, 0.1))
    found = check(here, 10, 2)
    sound = np.zeros((2, RATE // 2), np.float32)
    sound[0] = read_wav(tmp_path / "talk" / "long.wav")[0][: RATE // 2]
    sound[1, : RATE // 10] = read_wav(tmp_path / "talk" / "x" / "short.WAV")[0]
    np.testing.assert_allclose(found[:, 0], LogMel(RATE, 10)(sound), atol=1e-3, rtol=1e-4)
    write(tmp_path / "talk" / "fast.wav", tone(500), rate=8000)
    with caplog.at_level(logging.WARNING):
        check(here, 10, 2)
    assert "1 of 3 files" in caplog.text
    assert "fast.wav has 8000 samples a second and the data set 4000; resample it" in caplog.text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("synthetc", "there is no such source; did you mean synthetic? Allowed: chest_xray, "),
        ("synthetic:2", "there is no such source; did you mean synthetic?"),
        ("", "there is no such source; allowed: chest_xray, "),
        ("cifar100:a", "there is no such source; did you mean cifar100?"),
        ("held_out", "the server's share of the training samples, above 0 and below 1"),
        ("held_out:1", "such as held_out:0.05"),
        ("held_out:0", "such as held_out:0.05"),
        ("held_out:nan", "such as held_out:0.05"),
        ("held_out:5%", "such as held_out:0.05"),
        ("folder", "names no folder; give one in data_dir as folder:PATH"),
        ("folder: ", "names no folder"),
        ("digits", "is the clients' own data set, of which held_out:SHARE takes a part"),
        ("speech_commands", "has sounds, and dataset=digits images; allowed: chest_xray, "),
    ],
)
def test_sources_that_do_not_exist(source: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"server_data={source}: ")) as error:
        Digits(server_data=source)
    assert expected in str(error.value)


def test_images_are_no_source_for_sounds() -> None:
    with pytest.raises(ConfigError) as error:
        compose_config(["dataset=speech_commands", "dataset.server_data=mnist"])
    assert error.value.problems == [
        "dataset: server_data=mnist: has images, and dataset=speech_commands sounds; allowed:"
        " folder:PATH, held_out:SHARE, synthetic"
    ]


def test_good_sources() -> None:
    def of(text: str) -> Source:
        return Source.of(Digits(server_data=text))

    assert of("held_out:0.25") == Source("held_out", "0.25", 0.25)
    assert of("folder:/a b/c:d") == Source("folder", "/a b/c:d")
    assert of("voc_seg") == Source("voc_seg")
    assert Source.of(SpeechCommands()) == Source("synthetic")


def test_a_picture_is_cut_as_the_data_set_cuts_its_own(tmp_path: Path) -> None:
    xrays(tmp_path)
    wide = Image.new("L", (64, 16), 0)
    wide.paste(255, (0, 0, 20, 16))
    (tmp_path / "wide").mkdir()
    wide.save(tmp_path / "wide" / "a.png")
    fits: dict[Fit, float] = {"squash": 20 / 64, "crop": 0}
    for fit, share in fits.items():
        here = setup(tmp_path, ChestXRay(size=16, fit=fit, server_data="folder:wide"))
        assert check(here, 1).mean() / 255 == pytest.approx(share, abs=0.03)
