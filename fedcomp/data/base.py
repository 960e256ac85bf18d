"""The contract of a data set: arrays, the number of classes, the task and its metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Lt

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.tensors import Array


@dataclass(frozen=True)
class Samples:
    """Inputs (N, channels, height, width) and their targets (N, …)."""

    inputs: Array = field(repr=False)
    targets: Array = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            msg = f"{len(self.inputs)} inputs do not fit {len(self.targets)} targets"
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, indices: Array) -> Samples:
        """Return the samples at `indices`."""
        return Samples(self.inputs[indices], self.targets[indices])


@dataclass(frozen=True)
class Dataset:
    """A training and a test part.

    Attributes
    ----------
    classes
        Number of outputs of a model for this task.
    task
        Key of `fedcomp.training.tasks.TASKS`: what loss and metrics apply.
    """

    train: Samples
    test: Samples
    classes: int
    task: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.train.inputs.shape[1:])


@dataclass(frozen=True)
class DatasetSettings(ABC):
    """A data set by name.

    Parameters
    ----------
    validation
        Share of each client's samples that it keeps for validation.
    """

    name: ClassVar[str]

    validation: Annotated[float, Ge(0), Lt(1)] = 0.1

    @abstractmethod
    def load(self, data_dir: Path) -> Dataset:
        """Read the data set; `DataError` says which command gets it where it is missing."""


def divide(count: int, share: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Divide `range(count)` at random in a rest and a share, both in ascending order.

    The rest keeps at least one; a share above 0 gets at least one where two are there.
    """
    taken = min(max(round(count * share), 1), count - 1) if share > 0 else 0
    order = rng.permutation(count)
    return np.sort(order[taken:]), np.sort(order[:taken])
