"""The contract of a data set: arrays, the number of classes and the task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

import numpy as np
from annotated_types import Ge, Lt

from fedcomp.data.preparation import Preparation
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fedcomp.tensors import Array


@dataclass(frozen=True)
class Samples:
    """Inputs (N, channels, height, width) as they are stored, and their targets (N, …).

    Attributes
    ----------
    preparation
        What makes a model's inputs of the stored ones, batch by batch.
    labels
        One class a sample where the targets are more than that.
    columns
        What else is known of each sample, as integers: the patient, the speaker.
    """

    inputs: Array = field(repr=False)
    targets: Array = field(repr=False)
    preparation: Preparation = field(default_factory=Preparation)
    labels: Array | None = field(default=None, repr=False)
    columns: Mapping[str, Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        given = {"targets": self.targets, "labels": self.strata, **self.columns}
        for name, values in given.items():
            if len(values) != len(self.inputs):
                msg = f"{len(self.inputs)} inputs do not fit {len(values)} {name}"
                raise ValueError(msg)
        if self.labels is not None and self.labels.ndim != 1:
            msg = f"labels have the shape {self.labels.shape}; give one class a sample"
            raise ValueError(msg)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of a model."""
        return self.preparation.shape(self.inputs.shape[1:])

    @property
    def strata(self) -> Array:
        """One class a sample, by which partitions divide."""
        return self.targets if self.labels is None else self.labels

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, indices: Array) -> Samples:
        """Return a copy of the samples at `indices`."""
        columns = {name: values[indices] for name, values in self.columns.items()}
        arrays = self.inputs[indices], self.targets[indices]
        labels = None if self.labels is None else self.labels[indices]
        return Samples(*arrays, self.preparation, labels, columns)

    def outline(self, indices: Array) -> Samples:
        """Return the classes and columns of the samples at `indices`, for partitions; no inputs."""
        columns = {name: values[indices] for name, values in self.columns.items()}
        return Samples(np.empty((len(indices), 0)), self.strata[indices], columns=columns)


@dataclass(frozen=True)
class Dataset:
    """A training and a test part.

    Attributes
    ----------
    classes
        Number of outputs of a model for this task.
    task
        Key of `fedcomp.training.tasks.TASKS`: what loss and metrics apply.
    skipped
        The samples that were left out because they cannot be read: file and reason of each.
    names
        What the classes are called; none at all where they have numbers only.
    rate
        Of recordings, samples a second.
    """

    train: Samples
    test: Samples
    classes: int
    task: str
    skipped: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    rate: int | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of a model."""
        return self.train.input_shape


class Synthesiser(Protocol):
    """Makes inputs as a data set stores them; a dataclass, whose fields decide what it makes."""

    version: ClassVar[int]
    """Changes with the code."""

    def __call__(self, count: int, rng: np.random.Generator) -> Array:
        """Return so many inputs."""
        ...


class FileReader(Protocol):
    """Makes an input of a file; a dataclass, whose fields decide what it makes."""

    suffixes: ClassVar[frozenset[str]]

    def __call__(self, path: Path) -> Array:
        """Return the input; `DataError` says why a file gives none."""
        ...


@dataclass(frozen=True)
class DatasetSettings(ABC):
    """A data set by name.

    Parameters
    ----------
    validation
        Share of each client's samples that it keeps for validation.
    server_data
        Where the server's own samples come from, see `fedcomp.data.server_data`.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["images", "sounds"]] = "images"

    validation: Annotated[float, Ge(0), Lt(1)] = 0.1
    server_data: str = "synthetic"

    def __post_init__(self) -> None:
        from fedcomp.data.server_data import Source

        Source.of(self)

    @abstractmethod
    def load(self, data_dir: Path) -> Dataset:
        """Read the data set; `DataError` says which command gets it where it is missing."""

    def open(self, data_dir: Path) -> Dataset:
        """Return what `load` does; what the operating system refuses is a `DataError` too."""
        try:
            return self.load(data_dir)
        except OSError as error:
            msg = (
                f"{self.name}: cannot be read from data_dir={data_dir}: {error}; give a folder that"
                " exists and may be read"
            )
            raise DataError(msg) from error

    def synthesiser(self, dataset: Dataset) -> Synthesiser:
        """Return what makes inputs such as this data set's, of nothing."""
        from fedcomp.data.dead_leaves import DeadLeaves

        inputs = self._images(dataset)
        return DeadLeaves(inputs.shape[1:], str(inputs.dtype))

    def reader(self, dataset: Dataset) -> FileReader:
        """Return what makes inputs such as this data set's of anybody's files."""
        from fedcomp.data.likeness import ImageReader

        inputs = self._images(dataset)
        return ImageReader(inputs.shape[1:], str(inputs.dtype), getattr(self, "fit", "crop"))

    def _images(self, dataset: Dataset) -> Array:
        """Return the inputs if they are images."""
        inputs = dataset.train.inputs
        if inputs.ndim != 4:
            msg = (
                f"dataset.server_data={self.server_data}: inputs of dataset={self.name} have the"
                f" shape {inputs.shape[1:]} and are no images; use held_out:SHARE"
            )
            raise DataError(msg)
        return inputs


def divide(
    count: int, share: float, rng: np.random.Generator, groups: Array | None = None
) -> tuple[Array, Array]:
    """Divide `range(count)` at random in a rest and a share, both in ascending order.

    The rest keeps at least one; a share above 0 gets at least one where two are there.  Groups
    stay whole where there are two or more: the share takes some until it is large enough.
    """
    taken = min(max(round(count * share), 1), count - 1) if share > 0 else 0
    if taken and groups is not None and len(found := np.unique(groups)) > 1:
        order = rng.permutation(found)
        sizes = np.cumsum([np.count_nonzero(groups == group) for group in order])
        enough = min(int(np.searchsorted(sizes, taken)) + 1, len(order) - 1)
        inside = np.isin(groups, order[:enough])
        return np.flatnonzero(~inside), np.flatnonzero(inside)
    order = rng.permutation(count)
    return np.sort(order[taken:]), np.sort(order[:taken])
