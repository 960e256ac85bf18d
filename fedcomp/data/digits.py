"""The 1,797 handwritten digits of 8 × 8 pixels that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from fedcomp import seeds
from fedcomp.data.base import Dataset, DatasetSettings, Samples
from fedcomp.data.preparation import Preparation
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from fedcomp.tensors import Array

_TEST_SHARE = 0.2


@dataclass(frozen=True)
class Digits(DatasetSettings):
    """1,438 images to train, 359 to test, the same division in every run; values in 0 … 1.

    Parameters
    ----------
    channels
        Repeat the gray channel to be so many; null keeps one.
    """

    name: ClassVar[str] = "digits"

    channels: Literal[1, 3] | None = None

    def load(self, data_dir: Path) -> Dataset:  # noqa: ARG002  nothing lies on disk
        """Return the data set; nothing is downloaded."""
        images, labels = _read()
        inputs = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
        order = seeds.generator("digits", "test").permutation(len(labels))
        cut = int(len(labels) * _TEST_SHARE)
        every = Samples(inputs, labels.astype(np.int64), Preparation(channels=self.channels))
        return Dataset(every.take(order[cut:]), every.take(order[:cut]), 10, "classification")


def _read() -> tuple[Array, Array]:
    """Return pixels and labels from scikit-learn's file: its import takes seconds."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        msg = "dataset=digits: its images come with scikit-learn, which is not installed"
        raise DataError(msg)
    table = np.loadtxt(Path(package.origin).parent / "datasets/data/digits.csv.gz", delimiter=",")
    return table[:, :-1], table[:, -1]
