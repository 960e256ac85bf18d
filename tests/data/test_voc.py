from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from fedcomp.config import compose_config
from fedcomp.data import DATASETS
from fedcomp.data.base import Dataset
from fedcomp.data.voc_files import CLASSES, presence, rarest
from fedcomp.errors import DataError
from fedcomp.settings import parse

DOG, CAT, PERSON, SHEEP = (CLASSES.index(name) for name in ("dog", "cat", "person", "sheep"))

OBJECTS = {
    "2008_000001": ("dog", "person"),
    "2008_000002": ("dog", "dog", "person?"),
    "2008_000003": ("cat?", "person"),
    "2008_000004": ("dog?", "dog"),
    "2008_000005": ("sheep?",),
    "2008_000006": ("person", "sheep"),
}
"""Images and their objects; the difficult ones are questioned."""

TRAIN, VAL = list(OBJECTS)[:4], list(OBJECTS)[4:]


def annotation(*objects: str) -> str:
    items = "".join(
        f"<object><name>{name.rstrip('?')}</name><difficult>{int('?' in name)}</difficult>"
        "<part><name>head</name></part></object>"
        for name in objects
    )
    return f"<annotation><filename>x.jpg</filename>{items}</annotation>"


def masked(mask: np.ndarray[Any, Any], path: Path) -> None:
    """Write a mask with a palette, as VOC's are."""
    image = Image.fromarray(mask.astype(np.uint8))
    image.putpalette([value for at in range(256) for value in (at, 255 - at, at // 2)])
    image.save(path)


def write_voc(data_dir: Path, year: int = 2012, *, masks: bool = True) -> Path:
    """Write a tiny VOC in its published layout."""
    root = data_dir / f"VOCdevkit/VOC{year}"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for at, (name, objects) in enumerate(OBJECTS.items()):
        Image.new("RGB", (20, 16), (40 * at, 0, 0)).save(root / f"JPEGImages/{name}.jpg")
        (root / f"Annotations/{name}.xml").write_text(annotation(*objects))
    lists = {"train": TRAIN, "val": VAL, "trainval": [*TRAIN, *VAL]}
    for split, names in lists.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("\r\n".join([*names, "", ""]))
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names[1:]))
    (root / "ImageSets/Main/dog_train.txt").write_text("2008_000001  1\n")
    if masks:
        (root / "SegmentationClass").mkdir()
        for at, name in enumerate(OBJECTS):
            mask = np.zeros((16, 20))
            mask[:, 5:] = at
            mask[:, 19] = 255
            masked(mask, root / f"SegmentationClass/{name}.png")
    return root


def load(name: str, data_dir: Path, **values: Any) -> Dataset:
    return DATASETS.get(name)(**{"size": 8, **values}).load(data_dir)


def test_classes_are_present_absent_or_uncounted(tmp_path: Path) -> None:
    write_voc(tmp_path, masks=False)
    data = load("voc", tmp_path)
    assert (data.classes, data.task, data.skipped) == (20, "multilabel", ())
    assert data.names == CLASSES
    assert (data.input_shape, len(data.train), len(data.test)) == ((3, 8, 8), 4, 2)
    assert (data.train.targets.dtype, data.train.targets.shape) == (np.int8, (4, 20))
    columns = data.train.targets[:, [DOG, CAT, PERSON, SHEEP]].tolist()
    assert columns == [[1, 0, 1, 0], [1, 0, -1, 0], [0, -1, 1, 0], [1, 0, 0, 0]]
    assert np.count_nonzero(data.train.targets) == 7
    assert data.train.inputs[:, 0, 0, 0].tolist() == pytest.approx([0, 40, 80, 120], abs=2)
    assert data.train.strata.tolist() == [PERSON, DOG, PERSON, DOG]
    assert data.test.strata.tolist() == [SHEEP, PERSON]


def test_the_rarest_class_is_one_that_is_there() -> None:
    targets = np.array([[1, 1, 0], [1, 0, -1], [-1, 0, -1], [1, 1, 1], [0, 1, 0], [1, 0, 1]])
    assert rarest(targets).tolist() == [1, 0, 2, 2, 1, 2]


def test_splits_and_years(tmp_path: Path) -> None:
    root = write_voc(tmp_path, 2007)
    (root / "ImageSets/Main/test.txt").write_text("2008_000006 1\n")
    (root / "ImageSets/Main/trainval.txt").write_text("\n".join(list(OBJECTS)[:5]))
    data = load("voc", tmp_path, year=2007, train_split="trainval", test_split="test")
    assert (len(data.train), len(data.test), data.task) == (5, 1, "multilabel_2007")
    swapped = load("voc", tmp_path, year=2007, train_split="val", test_split="train")
    assert (len(swapped.train), len(swapped.test)) == (2, 4)


def test_splits_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no list .*train\.txt .*no lists\. .*download=true.*lies"):
        load("voc", tmp_path)
    root = write_voc(tmp_path)
    with pytest.raises(DataError, match=r"no list .*test\.txt .*are train, trainval, val\. Choose"):
        load("voc", tmp_path, test_split="test")
    with pytest.raises(DataError, match=r"split=trainval, .*2 images are in both, .*000005"):
        load("voc", tmp_path, train_split="trainval")
    (root / "ImageSets/Main/val.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"val\.txt: the list of the images of val is empty"):
        load("voc", tmp_path)
    (root / "ImageSets/Main/val.txt").write_text("../../secret")
    with pytest.raises(DataError, match=r"val\.txt: '\.\./\.\./secret' is no name of an image"):
        load("voc", tmp_path)
    (root / "ImageSets/Main/val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"val\.txt: the list of the images of val cannot be read"):
        load("voc", tmp_path)


BOMB = (
    "<!DOCTYPE a ["
    + "".join(f'<!ENTITY e{at} "{f"&e{at - 1};" * 10 if at else "ha"}">' for at in range(12))
    + "]><annotation><object><name>&e11;</name></object></annotation>"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (annotation(), r"the annotation names no object; VOC marks at least one"),
        (annotation("doge"), r"the class 'doge' is none of VOC's; did you mean dog\?"),
        ("<annotation><object/></annotation>", r"the class '' is none of VOC's"),
        ("this is not XML", r"cannot be read as an annotation in XML: syntax error"),
        ("", r"cannot be read as an annotation in XML: no element found"),
        (annotation("dog")[:-5], r"cannot be read as an annotation in XML"),
        (BOMB, r"declares a document type"),
        (BOMB.encode("utf-16"), r"declares a document type"),
        ('<?xml version="1.0" encoding="none"?><a/>', r"cannot be read as an annotation in XML"),
        (b"<annotation>\xff</annotation>", r"cannot be read as an annotation in XML"),
        ("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", r"declares a document type"),
    ],
)
def test_annotations_that_cannot_be_used(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = tmp_path / "2008_000001.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"2008_000001\.xml: .*{message}"):
        presence(path)


def test_a_difficult_object_is_no_matter_where_an_easy_one_is(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    for objects in (("dog", "dog?"), ("dog?", "dog")):
        path.write_text(annotation(*objects))
        assert presence(path)[DOG] == 1
    path.write_text("<annotation><object><name> dog\n</name></object></annotation>")
    assert presence(path)[DOG] == 1


def damage(root: Path) -> list[str]:
    """Spoil three of the six samples, each in another way."""
    (root / "JPEGImages/2008_000001.jpg").unlink()
    (root / "Annotations/2008_000002.xml").write_text("no XML")
    data = (root / "JPEGImages/2008_000005.jpg").read_bytes()
    (root / "JPEGImages/2008_000005.jpg").write_bytes(data[: len(data) // 2])
    names = ("JPEGImages/2008_000001.jpg", "Annotations/2008_000002.xml")
    return [*names, "JPEGImages/2008_000005.jpg"]


def test_bad_samples_are_named(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    damaged = damage(root)
    with pytest.raises(DataError, match=r"000001\.jpg: .*No such file.*mend it, .*skip_corrupt"):
        load("voc", tmp_path)
    data = load("voc", tmp_path, skip_corrupt=True)
    assert (len(data.train), len(data.test), len(data.skipped)) == (2, 1, 3)
    assert data.train.targets[:, DOG].tolist() == [0, 1]
    assert [text.split(": ")[0] for text in data.skipped] == damaged
    (root / "JPEGImages/2008_000006.jpg").unlink()
    with pytest.raises(
        DataError, match=r"voc: of 2 images to test none .*; the first: JPEGIm.*05\.jpg"
    ):
        load("voc", tmp_path, skip_corrupt=True)


def test_masks(tmp_path: Path) -> None:
    write_voc(tmp_path)
    data = load("voc_seg", tmp_path, fit="squash", size=20)
    assert (data.classes, data.task, data.input_shape) == (21, "segmentation", (3, 20, 20))
    assert data.names == ("background", *CLASSES)
    assert (len(data.train), len(data.test)) == (3, 1)
    assert (data.train.targets.dtype, data.train.targets.shape) == (np.uint8, (3, 20, 20))
    for at, mask in zip((1, 2, 3), data.train.targets, strict=True):
        assert mask[7].tolist() == [0] * 5 + [at] * 14 + [255]
    assert data.train.strata.tolist() == [1, 2, 3]
    cut = load("voc_seg", tmp_path, size=16)
    assert cut.train.targets[2, 0].tolist() == [0] * 3 + [3] * 13
    assert np.array_equal(load("voc_seg", tmp_path, size=16).train.targets, cut.train.targets)


def test_the_label_of_a_mask_is_its_largest_class_but_the_background(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    mask = np.zeros((16, 20))
    mask[:, 16:] = 255
    masked(mask, root / "SegmentationClass/2008_000002.png")
    mask[0:2], mask[2:5] = 20, 7
    masked(mask, root / "SegmentationClass/2008_000003.png")
    data = load("voc_seg", tmp_path, fit="squash", size=16)
    assert data.train.strata.tolist() == [0, 7, 3]


def test_masks_that_cannot_be_used(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    path = root / "SegmentationClass/2008_000002.png"
    for wrong in (21, 22, 128, 254):
        masked(np.full((16, 20), wrong), path)
        message = rf"000002\.png: holds the class {wrong}; allowed are 0 to 20, "
        with pytest.raises(DataError, match=message):
            load("voc_seg", tmp_path)
    masked(np.zeros((20, 16)), path)
    with pytest.raises(DataError, match=r"000002\.png: the mask has 16 × 20 pixels .* 20 × 16"):
        load("voc_seg", tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"000002\.png: cannot be decoded .*No such file"):
        load("voc_seg", tmp_path)
    assert load("voc_seg", tmp_path, skip_corrupt=True).skipped[0].startswith("Segm")


def test_a_copy_without_masks(tmp_path: Path) -> None:
    write_voc(tmp_path, masks=False)
    with pytest.raises(DataError, match=r"no folder .*SegmentationClass: .*choose dataset=voc"):
        load("voc_seg", tmp_path)


def test_a_download_fetches_the_archives_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch(root: Path, year: str, image_set: str, download: bool) -> None:
        fetched.append((root, year, image_set, download))
        if image_set == "test":
            message = "the host is unknown"
            raise urllib.error.URLError(message)
        write_voc(root, int(year))

    monkeypatch.setattr(torchvision.datasets, "VOCDetection", fetch)
    for _ in range(2):
        assert len(load("voc", tmp_path, year=2007, download=True).train) == 4
    assert fetched == [(tmp_path, "2007", "trainval", True)]
    with pytest.raises(DataError, match=r"test of VOC2007 cannot be fetched: .*unknown.*data_dir="):
        load("voc", tmp_path, year=2007, test_split="test", download=True)
    assert len(fetched) == 2


def test_2012_has_no_test_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test of VOC2012 cannot be fetched: .*Valid values"):
        load("voc", tmp_path, train_split="test", test_split="test", download=True)


@pytest.mark.parametrize("name", ["voc", "voc_seg"])
def test_the_configuration_loads(tmp_path: Path, name: str) -> None:
    write_voc(tmp_path)
    settings = parse(compose_config([f"dataset={name}"])).dataset
    assert (settings.load(tmp_path).input_shape, settings.name) == ((3, 128, 128), name)
