"""The partition that the data came in: all of a patient's or a speaker's samples stay together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.data.partition import Partition
from fedcomp.errors import DataError, suggest

if TYPE_CHECKING:
    from fedcomp.data.base import Samples
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class Natural(Partition):
    """Clients get whole groups, the largest first, each to the client with fewest samples so far.

    Parameters
    ----------
    column
        What makes a group: a column of the data set, by default its first.
    """

    name: ClassVar[str] = "natural"

    column: str | None = None

    def owners(self, samples: Samples, clients: int, rng: np.random.Generator) -> Array:
        """Deal the groups."""
        name = self._column(samples)
        _, group, sizes = np.unique(samples.columns[name], return_inverse=True, return_counts=True)
        if len(sizes) < clients:
            msg = (
                f"clients={clients}: the training samples come from {len(sizes)} groups"
                f" (partition.column={name}), and each client gets one or more; lower clients"
            )
            raise DataError(msg)
        shuffled = rng.permutation(len(sizes))
        held = np.zeros(clients, dtype=np.int64)
        client_of = np.empty(len(sizes), dtype=np.int64)
        for at in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            client_of[at] = held.argmin()
            held[client_of[at]] += sizes[at]
        return client_of[group]

    def groups(self, samples: Samples) -> Array:
        """Return the group of each sample: a patient is not to be trained and validated on."""
        return samples.columns[self._column(samples)]

    def _column(self, samples: Samples) -> str:
        known = list(samples.columns)
        if not known:
            msg = "partition=natural: the data set says of no sample where it comes from"
            raise DataError(f"{msg}; choose another partition")
        if self.column is not None and self.column not in known:
            msg = f"partition.column={self.column}: the data set has no such column"
            raise DataError(msg + suggest(self.column, known))
        return self.column or known[0]
