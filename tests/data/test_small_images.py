"""CIFAR, MNIST, Fashion-MNIST and PneumoniaMNIST from tiny files in their real layouts."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import tarfile
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
from fedcomp.data.mnist import FashionMnist, Mnist, read_idx
from fedcomp.data.pickles import unpickle
from fedcomp.data.preparation import Augment
from fedcomp.data.voc import Voc, VocSeg
from fedcomp.errors import DataError
from fedcomp.settings import parse
from tests.data.test_image_files import picture
from tests.data.test_voc import write_voc

RNG = np.random.default_rng(5)
CIFAR10, CIFAR100 = Cifar10(verify=False), Cifar100(verify=False)
BATCH = "cifar-10-batches-py/data_batch_3"
IDX = {"train": 6, "t10k": 4}


def images(count: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, *shape), dtype=np.uint8)


def python2_batch(batch: dict[str, object]) -> bytes:
    """Pickle an array and lists of small numbers with the opcodes that Python 2 wrote."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    out = b"\x80\x02}("
    for key, value in batch.items():
        out += text(key.encode())
        if isinstance(value, np.ndarray):
            out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
            out += text(b"b") + b"\x87R(K\x01" + number(len(value)) + number(3072) + b"\x86"
            out += b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
            out += b"NNN" + number(-1) * 2 + b"K\x00tb\x89"
            out += b"T" + struct.pack("<i", value.nbytes) + value.tobytes() + b"tb"
        else:
            out += b"](" + b"".join(map(number, value)) + b"e"  # type: ignore[call-overload]
    return out + b"u."


def write_cifar10(folder: Path, count: int = 4) -> np.ndarray:
    """Write six batches in the protocols that are around; return the images of the first five."""
    (folder / "cifar-10-batches-py").mkdir(parents=True)
    written = []
    for place, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        data = images(count, 3072)
        batch = {"data": data, "labels": [(place + k) % 10 for k in range(count)]}
        content = python2_batch(batch) if place < 2 else pickle.dumps(batch, protocol=place)
        (folder / "cifar-10-batches-py" / name).write_bytes(content)
        written.append(data)
    return np.concatenate(written[:5]).reshape(-1, 3, 32, 32)


def write_cifar100(folder: Path) -> None:
    (folder / "cifar-100-python").mkdir(parents=True)
    for name, count in (("train", 7), ("test", 3)):
        fine = [99 - k for k in range(count)]
        batch = {"data": images(count, 3072), "fine_labels": fine}
        batch["coarse_labels"] = [label % 20 for label in fine]
        (folder / "cifar-100-python" / name).write_bytes(pickle.dumps(batch))


def rewrite(path: Path, **changes: object) -> None:
    batch = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**batch, **changes}))


def pack(folder: Path, source: Path, archive: str) -> None:
    with tarfile.open(folder / archive, "w:gz") as tar:
        tar.add(source, source.name)


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, kind, values.ndim, *values.shape) + bytes(
        values.tobytes()
    )


def write_idx(folder: Path, origin: str, *, packed: bool = True) -> dict[str, np.ndarray]:
    raw = folder / origin / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, count in IDX.items():
        arrays[f"{part}-images-idx3-ubyte"] = images(count, 28, 28)
        arrays[f"{part}-labels-idx1-ubyte"] = np.arange(count, dtype=np.uint8)
    for name, values in arrays.items():
        content = idx(values)
        path = raw / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return arrays


def write_npz(path: Path, **changes: np.ndarray) -> dict[str, np.ndarray]:
    arrays = {}
    for name, count in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{name}_images"] = images(count, 28, 28)
        arrays[f"{name}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{**arrays, **changes})
    return arrays


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


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


def test_cifar10_is_read_from_any_protocol_and_from_its_archive(tmp_path: Path) -> None:
    written = write_cifar10(tmp_path / "a")
    batches = tmp_path / "a" / "cifar-10-batches-py"
    loaded = CIFAR10.load(tmp_path / "a")
    assert (len(loaded.test), loaded.classes, loaded.input_shape) == (4, 10, (3, 32, 32))
    assert np.array_equal(loaded.train.inputs, written)
    assert loaded.train.inputs.dtype == np.uint8
    assert loaded.train.targets.tolist() == [(k + p) % 10 for p in range(5) for k in range(4)]
    assert loaded.train.preparation.mean == (0.4914, 0.4822, 0.4465)
    assert (len(loaded.names), loaded.names[3]) == (10, "cat")

    (tmp_path / "b").mkdir()
    pack(tmp_path / "b", batches, "cifar-10-python.tar.gz")
    packed = CIFAR10.load(tmp_path / "b")
    assert np.array_equal(packed.train.inputs, written)
    assert np.array_equal(packed.test.targets, loaded.test.targets)


def test_the_store_follows_its_files(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    first = CIFAR10.load(tmp_path).train.inputs
    assert isinstance(first.base, np.memmap)
    path = tmp_path / BATCH
    rewrite(path, labels=[7] * 4)
    os.utime(path, ns=(1, 1))
    assert CIFAR10.load(tmp_path).train.targets[8:12].tolist() == [7] * 4


def test_cifar100_has_its_superclasses_as_a_column(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    loaded = CIFAR100.load(tmp_path)
    assert loaded.train.targets.tolist() == [99, 98, 97, 96, 95, 94, 93]
    assert loaded.train.columns["coarse"].tolist() == [19, 18, 17, 16, 15, 14, 13]
    assert (len(loaded.test), loaded.classes, loaded.names) == (3, 100, ())


def test_cifar_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path)
    source = torchvision.datasets.CIFAR10
    with pytest.raises(DataError, match=r"data_batch_1: .* dataset\.verify=false"):
        Cifar10().load(tmp_path)
    CIFAR10.load(tmp_path)
    with pytest.raises(DataError, match="not the published file"):  # although a store is there
        Cifar10().load(tmp_path)
    paths = Cifar10().find(tmp_path)
    monkeypatch.setattr(source, "train_list", [[path.name, md5(path)] for path in paths[:5]])
    monkeypatch.setattr(source, "test_list", [[path.name, md5(path)] for path in paths[5:]])
    assert len(Cifar10().load(tmp_path).train) == 20

    pack(tmp_path, tmp_path / "cifar-10-batches-py", "cifar-10-python.tar.gz")
    shutil.rmtree(tmp_path / "cifar-10-batches-py")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: .* dataset\.verify=false"):
        Cifar10().load(tmp_path)
    monkeypatch.setattr(source, "tgz_md5", md5(tmp_path / "cifar-10-python.tar.gz"))
    assert len(Cifar10().load(tmp_path).train) == 20


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"labels": [0, 1, 2, 10]}, "label 10 of image 3 is none of the classes 0 to 9"),
        ({"labels": [0, -1, 2, 3]}, "label -1 of image 1"),
        ({"labels": [0, 1, 2]}, "4 images need 4 whole numbers"),
        ({"labels": [0.0, 1.0, 2.0, 3.0]}, "values of type float64"),
        ({"labels": [[0], [1, 2], 3, 4]}, "4 images need 4 whole numbers"),
        ({"labels": None}, "4 images need 4 whole numbers"),
        ({"data": images(4, 3071)}, r"not uint8 \(4, 3071\)"),
        ({"data": images(4, 3072).astype(np.int16)}, r"not int16 \(4, 3072\)"),
        ({"data": images(0, 3072), "labels": []}, r"not uint8 \(0, 3072\)"),
        ({"data": [1, 2]}, "not no array"),
    ],
)
def test_batches_that_do_not_fit(tmp_path: Path, changes: dict[str, object], problem: str) -> None:
    write_cifar10(tmp_path)
    rewrite(tmp_path / BATCH, **changes)
    with pytest.raises(DataError, match=rf"data_batch_3: .*{problem}"):
        CIFAR10.load(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 200, 5000, -1])
def test_truncated_batches(tmp_path: Path, length: int) -> None:
    write_cifar10(tmp_path)
    for name in ("data_batch_1", "data_batch_4"):
        path = tmp_path / "cifar-10-batches-py" / name
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match=f"{name}: cannot be read: ."):
            CIFAR10.load(tmp_path)
        shutil.rmtree(tmp_path / "cifar-10-batches-py")
        write_cifar10(tmp_path)


def test_pickles_run_no_code(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    target = tmp_path / "made"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(target),)

    for protocol in (0, 2, 4):
        (tmp_path / BATCH).write_bytes(pickle.dumps(Evil(), protocol=protocol))
        with pytest.raises(DataError, match=r"data_batch_3: .*posix\.mkdir"):
            CIFAR10.load(tmp_path)
    assert not target.exists()
    for content in ([1, 2], {"data": np.array([None])}, {"data": np.array(["text"])}):
        (tmp_path / BATCH).write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match=r"data_batch_3: cannot be read: ."):
            CIFAR10.load(tmp_path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_numbers_come_back(protocol: int) -> None:
    values = {
        "bytes": images(3, 4),
        "big": np.arange(6, dtype=">i4").reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(20)[::3],
        "list": [1, "a", None, (2.0, b"x")],
    }
    found = unpickle(io.BytesIO(pickle.dumps(values, protocol=protocol)), "here")
    assert list(found) == list(values)
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype  # type: ignore[attr-defined]
            assert np.array_equal(found[name], value)  # type: ignore[arg-type]
        else:
            assert found[name] == value


def test_damaged_archives(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    batches, archive = tmp_path / "cifar-10-batches-py", tmp_path / "cifar-10-python.tar.gz"
    pack(tmp_path, batches, archive.name)
    whole = archive.read_bytes()
    (batches / "test_batch").unlink()
    assert CIFAR10.find(tmp_path) == [archive]
    for content in (b"", b"no archive", whole[:300], whole[: len(whole) // 2]):
        archive.write_bytes(content)
        with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: .*cannot be read"):
            CIFAR10.load(tmp_path)
    pack(tmp_path, batches, archive.name)
    with pytest.raises(DataError, match="cifar-10-batches-py/test_batch is missing in it"):
        CIFAR10.load(tmp_path)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("cls", "origin"), [(Mnist, "MNIST"), (FashionMnist, "FashionMNIST")])
def test_mnist_is_read_packed_and_unpacked(
    tmp_path: Path, cls: type[Mnist], origin: str, packed: bool
) -> None:
    arrays = write_idx(tmp_path, origin, packed=packed)
    loaded = cls(verify=False, channels=3, normalise=False).load(tmp_path)
    assert np.array_equal(loaded.train.inputs[:, 0], arrays["train-images-idx3-ubyte"])
    assert np.array_equal(loaded.test.inputs[:, 0], arrays["t10k-images-idx3-ubyte"])
    assert loaded.test.targets.tolist() == [0, 1, 2, 3]
    assert loaded.input_shape == (3, 28, 28)
    assert loaded.train.preparation.mean == ()
    prepared = cls(verify=False).load(tmp_path)
    known = prepared.train.preparation
    if cls is Mnist:
        assert (known.mean, known.std, prepared.names) == ((0.1307,), (0.3081,), ())
    else:
        assert (known.mean, known.std, len(prepared.names)) == ((0.2860,), (0.3530,), 10)


def test_mnist_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, "MNIST")
    with pytest.raises(DataError, match=r"train-images.*\.gz: .*dataset\.verify=false"):
        Mnist().load(tmp_path)
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        path.unlink()
    write_idx(tmp_path, "MNIST", packed=False)
    with pytest.raises(DataError, match=r"train-images.* holds 6 images, .* 60000;.*verify=false"):
        Mnist().load(tmp_path)
    monkeypatch.setattr("fedcomp.data.mnist._PUBLISHED", {"train": 6, "test": 4})
    assert len(Mnist().load(tmp_path).train) == 6


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("train-images-idx3-ubyte", b"", "not an idx file of bytes in 3 dimensions"),
        ("train-images-idx3-ubyte", idx(images(6, 28, 28), 13), r"its start is b'\\x00\\x00\\r"),
        ("train-images-idx3-ubyte", idx(images(6, 28, 28))[:-1], "has 4703 values, not 4704"),
        ("train-images-idx3-ubyte", idx(images(6, 28, 28)) + b"x", "has 4705 values"),
        ("train-images-idx3-ubyte", idx(images(6, 27, 28)), "6 images of 27 × 28 pixels"),
        ("train-images-idx3-ubyte", idx(images(0, 28, 28)), "holds 0 images"),
        ("t10k-labels-idx1-ubyte", idx(images(6, 28, 28)), "in 1 dimensions"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(5, np.uint8)), "4 images need 4 whole numbers"),
        ("t10k-labels-idx1-ubyte", idx(np.full(4, 10, np.uint8)), "label 10 of image 0"),
    ],
)
def test_idx_files_that_do_not_fit(tmp_path: Path, file: str, content: bytes, problem: str) -> None:
    write_idx(tmp_path, "MNIST", packed=False)
    (tmp_path / "MNIST" / "raw" / file).write_bytes(content)
    with pytest.raises(DataError, match=f"{file}: .*{problem}"):
        Mnist(verify=False).load(tmp_path)


def test_damaged_gzip_files(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    whole = gzip.compress(idx(np.zeros(50, np.uint8)))
    assert not whole.startswith(b"labels")
    for content in (b"plain", whole[:-9], whole[:12] + b"\xff" * 9 + whole[21:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"labels\.gz: cannot be read"):
            read_idx(path, 1)


@pytest.mark.parametrize("folder", ["", "pneumoniamnist"])
def test_pneumoniamnist_trains_on_train_and_val(tmp_path: Path, folder: str) -> None:
    arrays = write_npz(tmp_path / folder / "pneumoniamnist.npz")
    loaded = PneumoniaMnist().load(tmp_path)
    both = np.concatenate([arrays["train_images"], arrays["val_images"]])
    assert np.array_equal(loaded.train.inputs[:, 0], both)
    assert loaded.train.targets.tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert np.array_equal(loaded.test.inputs[:, 0], arrays["test_images"])
    assert (loaded.classes, loaded.input_shape) == (2, (1, 28, 28))
    assert loaded.names == ("normal", "pneumonia")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"val_labels": np.array([[0], [2]])}, "val_labels: label 2 of image 1"),
        ({"val_labels": np.array([0])}, "val_labels: 2 images need 2 whole numbers"),
        ({"test_images": images(3, 28, 28, 3)}, r"test_images must be .* not uint8 \(3, 28, 28, 3"),
        ({"test_images": images(0, 28, 28)}, r"test_images must be .* \(0, 28, 28\)"),
        ({"train_images": np.zeros((5, 28, 28))}, "train_images must be .* not float64"),
        ({"train_labels": np.array([None])}, "not an npz file with the arrays train_images"),
    ],
)
def test_npz_files_that_do_not_fit(
    tmp_path: Path, changes: dict[str, np.ndarray], problem: str
) -> None:
    write_npz(tmp_path / "pneumoniamnist.npz", **changes)
    with pytest.raises(DataError, match=rf"pneumoniamnist\.npz: .*{problem}"):
        PneumoniaMnist().load(tmp_path)


def test_damaged_npz_files(tmp_path: Path) -> None:
    path = tmp_path / "pneumoniamnist.npz"
    write_npz(path)
    whole = path.read_bytes()
    array, other = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(3))
    np.savez(other, images=np.zeros(3))
    middle = whole[:200] + bytes(900) + whole[1100:]
    for content in (b"", b"text", whole[:2000], middle, array.getvalue(), other.getvalue()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"pneumoniamnist\.npz: (cannot be read|not an npz)"):
            PneumoniaMnist().load(tmp_path)


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
