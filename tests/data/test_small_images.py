from __future__ import annotations

import os
import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torchvision

from fedcomp.config import compose_config
from fedcomp.data import DATASETS
from fedcomp.data.base import DatasetSettings
from fedcomp.data.cifar import Cifar10, Cifar100
from fedcomp.data.digits import Digits
from fedcomp.data.folder import Folder
from fedcomp.data.medmnist import PneumoniaMnist
from fedcomp.data.mnist import FashionMnist, Mnist
from fedcomp.data.preparation import Augment
from fedcomp.data.voc import Voc, VocSeg
from fedcomp.errors import DataError
from fedcomp.settings import parse
from tests.data.small_images import BATCH, CIFAR10, pack, rewrite, write_cifar10, write_idx
from tests.data.test_image_files import picture
from tests.data.test_voc import write_voc


@pytest.mark.parametrize(
    ("name", "augment"),
    [
        ("cifar10", Augment(crop=4, flip=True)),
        ("cifar100", Augment(crop=4, flip=True)),
        ("mnist", Augment()),
        ("fashion_mnist", Augment()),
        ("pneumoniamnist", Augment()),
        ("chest_xray", Augment(crop=4)),
        ("folder", Augment()),
        ("voc", Augment(crop=16, flip=True)),
        ("voc_seg", Augment(crop=16, flip=True)),
    ],
)
def test_files_of_conf_say_the_defaults(name: str, augment: Augment) -> None:
    settings = parse(compose_config([f"dataset={name}"])).dataset
    assert settings == type(settings)()
    assert settings.augment == augment  # type: ignore[attr-defined]


def test_the_store_follows_its_files(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    first = CIFAR10.load(tmp_path).train.inputs
    assert isinstance(first.base, np.memmap)
    path = tmp_path / BATCH
    rewrite(path, labels=[7] * 4)
    os.utime(path, ns=(1, 1))
    assert CIFAR10.load(tmp_path).train.targets[8:12].tolist() == [7] * 4


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        (Cifar10(), r"cifar-10-batches-py/ with data_batch_1, .* dataset\.download=true"),
        (Cifar100(), r"cifar-100-python/ with train, test, or .* dataset\.download=true"),
        (Mnist(), r"MNIST/raw/ with train-images-idx3.* dataset\.download=true"),
        (FashionMnist(), "FashionMNIST/raw/"),
        (PneumoniaMnist(), r"medmnist\.com"),
    ],
)
def test_missing_data_say_where_they_belong(
    tmp_path: Path, settings: DatasetSettings, hint: str
) -> None:
    with pytest.raises(DataError, match=rf"{settings.name}: .*data_dir={tmp_path}.*{hint}"):
        settings.load(tmp_path)
    assert not list(tmp_path.iterdir())


def test_download_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(url: str, *rest: object) -> None:
        (tmp_path / "asked").write_text(url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", offline)
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: .*no network.*by hand"):
        Cifar10(download=True).load(tmp_path)
    assert (tmp_path / "asked").read_text() == torchvision.datasets.CIFAR10.url
    with pytest.raises(DataError, match=r"FashionMNIST/raw/train-images.*no network"):
        FashionMnist(download=True).load(tmp_path)


def test_download_fetches_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = tmp_path / "remote"
    write_cifar10(remote)
    pack(remote, remote / "cifar-10-batches-py", "cifar-10-python.tar.gz")
    write_idx(remote, "MNIST")
    fetched = []

    def copy(url: str, root: Path, filename: str, md5: str) -> None:
        if "lecun" not in url and filename.endswith("ubyte.gz"):
            raise RuntimeError("the first mirror is broken")
        fetched.append(filename)
        root.mkdir(parents=True)
        shutil.copy(next(remote.rglob(filename)), root)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", copy)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://a/", "http://lecun/"])
    assert len(Cifar10(download=True, verify=False).load(tmp_path).train) == 20
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    shutil.copy(remote / "MNIST" / "raw" / "train-images-idx3-ubyte.gz", raw)
    for _ in range(2):
        assert len(Mnist(download=True, verify=False).load(tmp_path).train) == 6
    assert len(fetched) == 4
    assert "train-images-idx3-ubyte.gz" not in fetched
    assert len(list(raw.iterdir())) == 4


def test_gray_channels_are_repeated_and_colour_is_not_reduced(tmp_path: Path) -> None:
    assert Digits(channels=3).load(tmp_path).input_shape == (3, 8, 8)
    picture(tmp_path / "a/x/1.png")
    picture(tmp_path / "a/y/1.png")
    write_voc(tmp_path)
    for settings in (
        Cifar10(channels=1),
        Folder(channels=1, path="a"),
        Voc(channels=1),
        VocSeg(channels=1, normalise=False),
    ):
        with pytest.raises(DataError, match=rf"channels=1: .* of {settings.name} .*give 3 or null"):
            settings.load(tmp_path)
    assert not (tmp_path / ".fedcomp").exists()


@pytest.mark.parametrize("name", DATASETS.names())
def test_what_the_operating_system_refuses_is_explained(tmp_path: Path, name: str) -> None:
    cls = DATASETS.get(name)
    settings = cls(path="a") if name == "folder" else cls()  # type: ignore[call-arg]
    if name != "digits":
        with pytest.raises(DataError, match=rf"{name}: cannot be read from data_dir=.*too long"):
            settings.open(tmp_path / ("a" * 300))
    else:
        assert len(settings.open(tmp_path / ("a" * 300)).train) == 1438
