"""What the settings of all image data sets have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from fedcomp.data.base import DatasetSettings
from fedcomp.data.preparation import Augment, Preparation
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from fedcomp.data.preparation import Numbers
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class ImageSettings(DatasetSettings):
    """A data set of images, stored as they are and prepared batch by batch.

    Parameters
    ----------
    channels
        Repeat a gray channel to be so many; null keeps it.
    normalise
        Subtract the mean and divide by the standard deviation of each channel; otherwise the
        values stay in 0 … 1.
    augment
        Changes of training images.
    """

    channels: Literal[1, 3] | None = None
    normalise: bool = True
    augment: Augment = field(default_factory=Augment)

    def preparation(self, mean: Numbers, std: Numbers) -> Preparation:
        """Return the preparation of images whose channels have this mean and deviation in 0 … 1."""
        if self.channels == 1 and len(mean) > 1:
            msg = (
                f"dataset.channels=1: the images of {self.name} are in colour; give 3 or null"
                " (dataset=folder stores gray ones with dataset.gray=true)"
            )
            raise DataError(msg)
        known = (mean, std) if self.normalise else ((), ())
        return Preparation(*known, self.channels, self.augment)


def class_labels(values: object, count: int, classes: int, where: object) -> Array:
    """Return the labels of `count` images, each in 0 … classes − 1; `where` goes into errors."""
    try:
        labels = np.asarray(values)
    except ValueError:  # lists of unequal length
        labels = np.empty(0)
    if labels.shape != (count,) or (count and labels.dtype.kind not in "iu"):
        msg = (
            f"{where}: {count} images need {count} whole numbers as labels, not values of type"
            f" {labels.dtype} in the shape {labels.shape}"
        )
        raise DataError(msg)
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        msg = (
            f"{where}: label {labels[first]} of image {first} is none of the classes"
            f" 0 to {classes - 1}"
        )
        raise DataError(msg)
    return labels.astype(np.int64)
