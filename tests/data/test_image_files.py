from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from fedcomp.data.files import fill, sound
from fedcomp.data.image_files import Frame, read_image, read_mask
from fedcomp.errors import DataError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(path: Path, value: Any = 100, size: tuple[int, int] = (20, 16), **how: Any) -> Path:
    """Write an image of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = how.pop("mode", "L" if isinstance(value, int) else "RGB")
    Image.new(mode, size, value).save(path, **how)
    return path


def thirds(path: Path, **how: Any) -> Path:
    """Write an image whose left, middle and right third are red, green and blue."""
    image = Image.new("RGB", (48, 16), GREEN)
    image.paste(RED, (0, 0, 16, 16))
    image.paste(BLUE, (32, 0, 48, 16))
    image.save(path, **how)
    return path


def test_the_middle_is_cut_out_or_all_is_squashed(tmp_path: Path) -> None:
    path = thirds(tmp_path / "wide.png")
    cut = read_image(path, Frame(16, "crop", 3))
    assert (cut.shape, cut.dtype) == ((3, 16, 16), np.uint8)
    assert (cut == np.reshape(GREEN, (3, 1, 1))).all()
    squashed = read_image(path, Frame(12, "squash", 3))
    assert [tuple(squashed[:, 6, at]) for at in (0, 6, 11)] == [RED, GREEN, BLUE]
    tall = tmp_path / "tall.png"
    Image.open(path).rotate(90, expand=True).save(tall)
    assert (read_image(tall, Frame(16, "crop", 3)) == cut).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff"])
def test_a_camera_s_orientation_is_followed(tmp_path: Path, orientation: int, suffix: str) -> None:
    image = Image.new("RGB", (64, 48), RED)  # each quarter has a colour of its own
    image.paste(GREEN, (32, 0, 64, 24))
    image.paste(BLUE, (0, 24, 32, 48))
    image.paste((255, 255, 255), (32, 24, 64, 48))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"turned.{suffix}", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / f"turned.{suffix}"))
    upright.save(tmp_path / "upright.png")
    frame = Frame(24, "crop", 3)  # so large that JPEG is decoded whole
    found = read_image(tmp_path / f"turned.{suffix}", frame).astype(int)
    assert np.abs(found - read_image(tmp_path / "upright.png", frame)).max() <= 1
    as_stored = read_image(tmp_path / f"turned.{suffix}", Frame(24, "crop", 3, upright=False))
    if suffix != "tiff":  # PIL turns those itself
        assert as_stored[:, 4, 4].argmax() == 0


def test_a_mask_is_cut_as_its_image_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 21, (9, 14)).repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
    mask = Image.fromarray(classes)
    mask.putpalette(list(range(256)) * 3)
    mask.save(tmp_path / "mask.png")
    Image.fromarray(classes).save(tmp_path / "image.png")
    for fit in ("crop", "squash"):
        frame = Frame(36, fit, 1)
        found = read_mask(tmp_path / "mask.png", frame, (112, 72))
        near = read_image(tmp_path / "image.png", frame)[0]
        assert set(np.unique(found)) <= set(range(21))
        assert np.mean(np.abs(found.astype(int) - near) <= 1) > 0.5
    with pytest.raises(DataError, match=r"mask\.png: the mask has 112 × 72 pixels .* 100 × 72"):
        read_mask(tmp_path / "mask.png", frame, (100, 72))
    colours = thirds(tmp_path / "colours.png")
    with pytest.raises(DataError, match=r"colours\.png: is of mode RGB; .*mode P or L"):
        read_mask(colours, frame, (48, 16))


def test_the_draft_of_a_large_jpeg_is_near_the_whole(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:700, 0:900]
    values = (127 + 60 * np.sin(rows / 40) + 60 * np.cos(columns / 55)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "large.jpg", quality=95)
    Image.fromarray(values).save(tmp_path / "large.png")
    frame = Frame(32, "squash", 1)
    left, right = (read_image(tmp_path / f"large.{end}", frame) for end in ("jpg", "png"))
    assert np.abs(left.astype(int) - right).max() <= 3


@pytest.mark.parametrize(
    ("mode", "value", "suffix", "expected"),
    [
        ("L", 100, "png", (100, 100, 100)),
        ("LA", (100, 7), "png", (100, 100, 100)),
        ("1", 1, "png", (255, 255, 255)),
        ("RGBA", (10, 20, 30, 0), "png", (10, 20, 30)),
        ("I;16", 0x6432, "png", (0x64, 0x64, 0x64)),
        ("CMYK", (0, 0, 0, 155), "tiff", (100, 100, 100)),
    ],
)
def test_every_mode_becomes_8_bits(
    tmp_path: Path, mode: str, value: Any, suffix: str, expected: tuple[int, ...]
) -> None:
    path = picture(tmp_path / f"image.{suffix}", value, mode=mode)
    image = read_image(path, Frame(8, "crop", 3))
    assert (image == np.reshape(expected, (3, 1, 1))).all()
    gray = read_image(path, Frame(8, "crop", 1))
    luma = np.dot(expected, (0.299, 0.587, 0.114))
    assert (gray.shape, abs(int(gray[0, 0, 0]) - luma) <= 1) == ((1, 8, 8), True)


def test_transparent_palettes_and_floats(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, *BLUE])
    image.save(tmp_path / "p.png", transparency=bytes([0, 128]))
    assert tuple(read_image(tmp_path / "p.png", Frame(8, "crop", 3))[:, 0, 0]) == BLUE
    Image.new("F", (16, 16), 0.5).save(tmp_path / "f.tiff")
    with pytest.raises(DataError, match=r"f\.tiff: .*its mode F has no fixed range; save it"):
        read_image(tmp_path / "f.tiff", Frame(8, "crop", 3))


def test_the_first_that_cannot_be_read_is_named_whatever_the_threads_do(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{at:03d}.png", at) for at in range(100)]
    frame = Frame(8, "crop", 1)
    array = np.zeros((100, *frame.shape), np.uint8)
    fill([array], paths, lambda path: (read_image(path, frame),))
    assert (array[:, 0, 0, 0] == np.arange(100)).all()
    for at in (40, 70, 99):
        paths[at].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"040\.png: cannot be decoded .*skip_corrupt=true"):
        fill([array], paths, lambda path: (read_image(path, frame),))
    kept, left_out = sound(paths, lambda path: read_image(path, frame), tmp_path, skip=True)
    assert [path for path in paths if path not in kept] == [paths[40], paths[70], paths[99]]
    assert [path for path, _ in left_out] == [paths[40], paths[70], paths[99]]
    assert left_out[0][1].startswith("040.png: cannot be decoded")
