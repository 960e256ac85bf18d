from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcomp.config import compose_config
from fedcomp.data import DATASETS
from fedcomp.data.base import Dataset
from fedcomp.data.preparation import Augment
from fedcomp.errors import DataError
from fedcomp.settings import parse
from tests.data.test_image_files import picture


def load(name: str, data_dir: Path, **values: Any) -> Dataset:
    return DATASETS.get(name)(**{"size": 8, **values}).load(data_dir)


def folder_of(root: Path, *parts: str, count: int = 10) -> Path:
    """Write a data set: cats are 10, 11, …, dogs 200, 201, …; a readme lies among them."""
    for part in parts or ("",):
        for name, value in (("dog", 200), ("cat", 10)):
            for at in range(count):
                picture(root / part / name / f"{at:02d}.{'PnG' if at % 2 else 'bmp'}", value + at)
            (root / part / name / "README.txt").touch()
            (root / part / name / "._00.png").write_bytes(b"a shadow of macOS")
    return root


def test_a_folder_with_train_and_test(tmp_path: Path) -> None:
    folder_of(tmp_path / "pets", "train", "test", count=3)
    data = load("folder", tmp_path, path="pets", gray=True, channels=3)
    assert (data.classes, data.task, data.skipped) == (2, "classification", ())
    assert (data.input_shape, data.names) == ((3, 8, 8), ("cat", "dog"))
    assert data.train.inputs.shape == (6, 1, 8, 8)
    assert data.train.inputs[:, 0, 0, 0].tolist() == [10, 11, 12, 200, 201, 202]
    assert data.test.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert (data.train.targets.dtype, dict(data.train.columns)) == (np.int64, {})
    assert data.train.preparation.mean == (0.449,)
    colour = load("folder", tmp_path, path=str(tmp_path / "pets"))
    assert colour.train.inputs.shape == (6, 3, 8, 8)


def test_a_folder_without_parts_is_divided_by_class(tmp_path: Path) -> None:
    folder_of(tmp_path / "pets")
    data = load("folder", tmp_path, path="pets", test_share=0.3)
    assert np.bincount(data.train.targets).tolist() == [7, 7]
    assert np.bincount(data.test.targets).tolist() == [3, 3]
    values = [*data.train.inputs[:, 0, 0, 0], *data.test.inputs[:, 0, 0, 0]]
    assert sorted(values) == [*range(10, 20), *range(200, 210)]
    again = load("folder", tmp_path, path="pets", test_share=0.3)
    assert np.array_equal(again.test.inputs, data.test.inputs)
    other = load("folder", tmp_path, path="pets", test_share=0.5)
    assert len(other.test) == 10


def test_a_changed_file_is_decoded_anew_and_augmentation_decodes_nothing(tmp_path: Path) -> None:
    folder_of(tmp_path / "pets", "train", "test", count=2)
    load("folder", tmp_path, path="pets")
    augmented = load("folder", tmp_path, path="pets", augment=Augment(flip=True))
    assert augmented.train.preparation.augment == Augment(flip=True)
    assert len(list((tmp_path / ".fedcomp").iterdir())) == 1
    path = picture(tmp_path / "pets/train/cat/00.bmp", 99)
    os.utime(path, (1, 1))
    assert load("folder", tmp_path, path="pets").train.inputs[0, 0, 0, 0] == 99


def test_sets_whose_files_look_alike_are_told_apart(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        for path in (f"{name}/{kind}/{at}.bmp" for kind in ("x", "y") for at in range(2)):
            os.utime(picture(tmp_path / path, value), (1, 1))
    found = [load("folder", tmp_path, path=name).train.inputs[0, 0, 0, 0] for name in "ab"]
    assert found == [1, 2]


def test_names_with_odd_characters(tmp_path: Path) -> None:
    for name in ("Ünï cödé", "a%b{c}", "new\nline", "train"):
        picture(tmp_path / "odd set" / name / "é [1] #.JPEG")
        picture(tmp_path / "odd set" / name / "2.jpg")
    data = load("folder", tmp_path, path="odd set")
    assert (data.classes, len(data.train), len(data.test)) == (4, 4, 4)


@pytest.mark.skipif(os.name != "posix", reason="other systems allow no such names")
def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", count=2)
    try:
        Path(os.fsdecode(os.fsencode(root / "cat") + b"/\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    with pytest.raises(DataError, match=r"cat: the name .* is not UTF-8; rename it"):
        load("folder", tmp_path, path="pets")


def metadata(root: Path, *lines: str, **how: Any) -> None:
    (root / "metadata.csv").write_text("\n".join(lines), **how)


def test_metadata_gives_columns_as_integers_in_its_order(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", "train", "test", count=2)
    rows = [
        f"{owner},{part}/{kind}/0{at}.{end},{'x, y' if at else ''}"
        for part, owner in (("train", "Zoe"), ("test", "Ann"))
        for kind in ("cat", "dog")
        for at, end in ((0, "bmp"), (1, "PnG"))
    ]
    rows = [row.replace("x, y", '"x, y"') for row in rows]
    metadata(root, "owner,file,Colour", *rows, "Ann,train/cat/gone.png,", encoding="utf-8-sig")
    for _ in range(2):
        data = load("folder", tmp_path, path="pets")
        assert list(data.train.columns) == ["owner", "Colour"]
        assert data.train.columns["owner"].tolist() == [1, 1, 1, 1]
        assert data.test.columns["owner"].tolist() == [0, 0, 0, 0]
        assert data.test.columns["Colour"].tolist() == [0, 1, 0, 1]
        assert data.test.columns["Colour"].dtype == np.int64


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,owner", "cat/00.bmp,1"], r"metadata\.csv: no row has file=cat/01\.PnG"),
        (["name,owner"], r"its columns are 'name', 'owner'; one has to be 'file'"),
        ([], r"its columns are none; one has to be 'file'"),
        (["file,the owner"], r"its columns are 'file', 'the owner'"),
        (["file,a,a"], r"its columns are 'file', 'a', 'a'"),
        (["file,a", "cat/00.bmp"], r"line 2: give each file one row, and a value in each column"),
        (["file,a", "cat/00.bmp,1,2"], r"line 2: give each file one row"),
        (["file,a", "x,1", "x,2"], r"line 3: give each file one row"),
        (["file,a", '"x'], r"cannot be read as a table"),
    ],
)
def test_metadata_that_cannot_be_used(tmp_path: Path, lines: list[str], message: str) -> None:
    metadata(folder_of(tmp_path / "pets", count=2), *lines)
    with pytest.raises(DataError, match=message):
        load("folder", tmp_path, path="pets")


def test_metadata_in_another_encoding(tmp_path: Path) -> None:
    metadata(folder_of(tmp_path / "pets"), "file,Größe", encoding="latin-1")
    with pytest.raises(DataError, match=r"cannot be read as a table .* in UTF-8"):
        load("folder", tmp_path, path="pets")


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    for path in ("", " "):
        with pytest.raises(DataError, match=r"dataset\.path is empty; give the folder .*data_dir="):
            load("folder", tmp_path, path=path)
    with pytest.raises(DataError, match=r"there is no folder .*none.*data_dir=.*put one folder"):
        load("folder", tmp_path, path="none")
    root = folder_of(tmp_path / "pets", "train", "test", count=2)
    picture(root / "test/fox/1.png")
    with pytest.raises(DataError, match=r"test has the class 'fox', which .* \(cat, dog\)"):
        load("folder", tmp_path, path="pets")
    (root / "train/fox/inner").mkdir(parents=True)
    picture(root / "train/fox/inner/1.png")
    with pytest.raises(DataError, match=r"train/fox: no image lies directly .*\.png.*remove it"):
        load("folder", tmp_path, path="pets")
    with pytest.raises(DataError, match=r"pets/train/cat: at least 2 folders .* found: none"):
        load("folder", tmp_path, path="pets/train/cat")
    for name in ("a", "b"):
        picture(tmp_path / f"few/{name}/1.png")
    with pytest.raises(DataError, match="no image is left to test; add some"):
        load("folder", tmp_path, path="few")
    for name, given, missing in (("train", "train", "test"), ("val", "train, val", "test")):
        picture(tmp_path / f"parts/{name}/cat/1.png")
        with pytest.raises(DataError, match=rf"parts has {given}, and {missing} is missing; name"):
            load("folder", tmp_path, path="parts")
    picture(tmp_path / "one/only/1.png")
    with pytest.raises(DataError, match=r"one: at least 2 folders .*; found: only"):
        load("folder", tmp_path, path="one")


def damage(root: Path) -> list[Path]:
    """Cut a file short, replace one by text, and link one to nothing."""
    short, text, link = (root / f"train/cat/0{at}" for at in (0, 1, 2))
    names = [short.with_suffix(".bmp"), text.with_suffix(".PnG"), link.with_suffix(".bmp")]
    names[0].write_bytes(names[0].read_bytes()[:200])
    names[1].write_bytes(b"no image")
    names[2].unlink()
    names[2].symlink_to(root / "nothing")
    return names


def test_corrupt_files_are_named(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", "train", "test", count=4)
    damaged = damage(root)
    with pytest.raises(DataError, match=r"train/cat/00\.bmp: cannot .*truncated.*skip_corrupt"):
        load("folder", tmp_path, path="pets")
    assert not any((tmp_path / ".fedcomp").iterdir())
    skip = {"path": "pets", "skip_corrupt": True, "gray": True}
    data = load("folder", tmp_path, **skip)
    named = [text.split(": ")[0] for text in data.skipped]
    assert named == [path.relative_to(root).as_posix() for path in damaged]
    assert data.skipped == load("folder", tmp_path, **skip).skipped
    assert data.train.inputs[:, 0, 0, 0].tolist() == [13, 200, 201, 202, 203]
    assert data.train.targets.tolist() == [0, 1, 1, 1, 1]
    (root / "train/cat/03.PnG").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"cat: none of .* the first: train/cat/00\.bmp: .*truncated"
    ):
        load("folder", tmp_path, **skip)
    picture(root / "train/cat/04.png")
    for path in root.glob("test/*/*.*"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"to test; none can be read; the first: test/cat/00\.bmp"):
        load("folder", tmp_path, **skip)


def xrays(data_dir: Path) -> Path:
    """Write a tiny copy of the X-rays in their published layout."""
    root = data_dir / "chest_xray"
    for name in (
        "train/NORMAL/IM-0115-0001.jpeg",
        "train/NORMAL/IM-0115-0002-0001.jpeg",
        "train/NORMAL/NORMAL2-IM-0115-0001.jpeg",
        "train/PNEUMONIA/person7_bacteria_24.jpeg",
        "train/PNEUMONIA/person7_virus_9.jpeg",
        "train/PNEUMONIA/person70_virus_9_1.jpeg",
        "train/PNEUMONIA/somebody.jpeg",
        "val/NORMAL/NORMAL2-IM-1427-0001.jpeg",
        "val/PNEUMONIA/person70_virus_10.jpeg",
        "test/NORMAL/somebody.jpeg",
        "test/PNEUMONIA/person1_virus_6.jpeg",
    ):
        picture(root / name, (90, 90, 90))
    (root / "train/NORMAL/.DS_Store").touch()
    return root


def test_x_rays_know_patient_and_cause(tmp_path: Path) -> None:
    xrays(tmp_path)
    data = load("chest_xray", tmp_path)
    assert (len(data.train), len(data.test), data.classes) == (9, 2, 2)
    assert (data.input_shape, data.task) == ((1, 8, 8), "classification")
    assert data.names == ("NORMAL", "PNEUMONIA")
    assert (data.train.preparation.mean, data.train.preparation.std) == ((0.482,), (0.236,))
    assert data.train.targets.tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 1]
    patient, cause = (data.train.columns[name] for name in ("patient", "cause"))
    assert list(data.train.columns) == ["patient", "cause"]
    first = [patient.tolist().index(value) for value in patient]
    assert first == [0, 0, 2, 3, 4, 4, 6, 7, 3]  # person70 is sorted before person7
    unknown = {*data.test.columns["patient"]} & {*patient}
    assert not unknown
    by_cause = [cause.tolist().index(value) for value in cause]
    assert by_cause == [0, 0, 0, 3, 4, 3, 6, 0, 3]


@pytest.mark.parametrize(
    ("name", "shape", "overrides"),
    [
        ("chest_xray", (1, 64, 64), ()),
        ("chest_xray", (3, 32, 32), ("dataset.channels=3", "dataset.size=32")),
        ("folder", (3, 64, 64), ("dataset.path=chest_xray",)),
    ],
)
def test_the_configuration_loads(
    tmp_path: Path, name: str, shape: tuple[int, ...], overrides: tuple[str, ...]
) -> None:
    xrays(tmp_path)
    settings = parse(compose_config([f"dataset={name}", *overrides])).dataset
    assert (settings.load(tmp_path).input_shape, settings.name) == (shape, name)


def test_x_rays_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*train/NORMAL \(data_dir=.*rscbjbr9sj"):
        load("chest_xray", tmp_path)
    root = xrays(tmp_path)
    for path in root.glob("val/*/*"):
        path.unlink()
    with pytest.raises(DataError, match=r"val/NORMAL: no image lies directly"):
        load("chest_xray", tmp_path)
    for path in root.glob("val/*"):
        path.rmdir()
    assert len(load("chest_xray", tmp_path).train) == 7
