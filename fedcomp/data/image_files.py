"""Image files of any size and kind, decoded in threads to arrays of one shape."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le

from fedcomp.data.images import ImageSettings
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from PIL import Image

    from fedcomp.tensors import Array

Fit = Literal["crop", "squash"]

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Other files are no images."""

_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""What makes an image upright, by its EXIF orientation."""

_DRAFT = 2  # a JPEG is decoded at the scale that still leaves so many pixels for one


@dataclass(frozen=True)
class Frame:
    """What an image becomes: `channels` planes of `size` × `size` values of type uint8.

    Attributes
    ----------
    fit
        "crop" cuts the largest square out of the middle; "squash" takes all of the image and
        changes its proportions.
    upright
        Turn as the camera's EXIF orientation says; masks belong to images that are not turned.
    """

    size: int
    fit: Fit
    channels: Literal[1, 3]
    upright: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array of one image."""
        return self.channels, self.size, self.size

    def box(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Return the part of an image that is resized: left, top, right, bottom.

        Examples
        --------
        >>> Frame(64, "crop", 3).box(500, 375)
        (62.5, 0.0, 437.5, 375.0)
        """
        if self.fit == "squash":
            return 0.0, 0.0, float(width), float(height)
        short = min(width, height)
        left, top = (width - short) / 2, (height - short) / 2
        return left, top, left + short, top + short


@dataclass(frozen=True)
class ImageFileSettings(ImageSettings):
    """A data set of image files.

    Parameters
    ----------
    size
        Side of the images that are stored, in pixels.
    fit
        "crop" or "squash", see `Frame`.
    skip_corrupt
        Leave out samples whose files cannot be read, and name them; otherwise the first is an
        error.
    """

    size: Annotated[int, Ge(8), Le(1024)] = 64
    fit: Fit = "crop"
    skip_corrupt: bool = False

    def key(self, frame: Frame) -> dict[str, Any]:
        """Return what the stored arrays depend on, besides the files."""
        return {**asdict(frame), "skip_corrupt": self.skip_corrupt}


def read_image(path: Path, frame: Frame) -> Array:
    """Decode an image to an array of the frame's shape."""
    from PIL import ExifTags, Image

    with _opened(path) as image:
        mode = "L" if frame.channels == 1 else "RGB"
        draft = image.draft(mode, (_DRAFT * frame.size, _DRAFT * frame.size))
        image.load()
        extent = draft[1][2:] if draft else image.size  # a draft's size is rounded up
        shape = frame.size, frame.size
        square = _of_mode(image, mode).resize(shape, Image.Resampling.BILINEAR, frame.box(*extent))
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        if frame.upright and turn is not None:
            square = square.transpose(Image.Transpose[turn])
    values = np.asarray(square)
    return values[None] if frame.channels == 1 else values.transpose(2, 0, 1)


def read_mask(path: Path, frame: Frame, size: tuple[int, int]) -> Array:
    """Decode the classes of an image's pixels, cut and resized as the image of that size is."""
    from PIL import Image

    with _opened(path) as image:
        if image.mode not in ("L", "P"):
            msg = f"{path}: is of mode {image.mode}; a mask holds one class a pixel (mode P or L)"
            raise DataError(msg)
        if image.size != size:
            given, wanted = (f"{width} × {height}" for width, height in (image.size, size))
            msg = f"{path}: the mask has {given} pixels and its image {wanted}"
            raise DataError(msg)
        shape = frame.size, frame.size
        return np.asarray(image.resize(shape, Image.Resampling.NEAREST, frame.box(*size)))


def image_size(path: Path) -> tuple[int, int]:
    """Return an image's width and height as they are stored."""
    with _opened(path) as image:
        return image.size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # damaged files make decoders raise nearly anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        msg = f"{path}: cannot be decoded as an image ({reason})"
        raise DataError(msg) from error


def _of_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image; 16 bits become 8, which PIL would clip."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        msg = f"its mode {image.mode} has no fixed range; save it with 8 or 16 bits a channel"
        raise ValueError(msg)
    if image.mode == "P":
        image = image.convert("RGBA")  # PIL warns where a palette has transparent colours
    return image.convert(mode)
