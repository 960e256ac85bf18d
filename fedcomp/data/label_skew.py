"""Partitions in which clients see other classes, or other shares of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from fedcomp.data.partition import Drawn, Partition, filled_up, portions, shares
from fedcomp.errors import DataError

if TYPE_CHECKING:
    from fedcomp.data.base import Samples
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class Dirichlet(Drawn):
    """Each class is dealt in shares drawn from Dir(alpha): a small alpha gives few classes each.

    Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", arXiv:1909.06335.
    """

    name: ClassVar[str] = "dirichlet"

    def owners(self, samples: Samples, clients: int, rng: np.random.Generator) -> Array:
        """Cut each class, shuffled, in pieces of the drawn shares."""
        owner = np.empty(len(samples), dtype=np.int64)
        for label in np.unique(samples.strata):
            members = rng.permutation(np.flatnonzero(samples.strata == label))
            owner[members] = portions(len(members), shares(self.alpha, clients, rng))
        return filled_up(owner, clients, self.min_samples, rng)


@dataclass(frozen=True)
class Shards(Partition):
    """Sorted by class, the set is cut in equal shards; each client gets some at random.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017, arXiv:1602.05629, with two shards a client.

    Parameters
    ----------
    per_client
        Number of shards that a client gets; it sees about as many classes.
    """

    name: ClassVar[str] = "shards"

    per_client: Annotated[int, Ge(1)] = 2

    @property
    def least(self) -> int:
        """One sample of each shard."""
        return self.per_client

    def owners(self, samples: Samples, clients: int, rng: np.random.Generator) -> Array:
        """Deal the shards."""
        shuffled = rng.permutation(len(samples))
        order = shuffled[np.argsort(samples.strata[shuffled], kind="stable")]
        holders = rng.permutation(np.repeat(np.arange(clients), self.per_client))
        owner = np.empty(len(samples), dtype=np.int64)
        owner[order] = holders[portions(len(order), np.full(len(holders), 1 / len(holders)))]
        return owner


@dataclass(frozen=True)
class Pathological(Partition):
    """Every client sees the same number of classes, and shares each with others equally.

    Parameters
    ----------
    classes_per_client
        How many; each class has the same number of clients, give or take one.
    """

    name: ClassVar[str] = "pathological"

    classes_per_client: Annotated[int, Ge(1)] = 2

    def owners(self, samples: Samples, clients: int, rng: np.random.Generator) -> Array:
        """Give each client the classes that fewest have so far, then deal each class."""
        labels, each = np.unique(samples.strata, return_counts=True)
        self._check(len(labels), clients)
        holders: list[list[int]] = [[] for _ in labels]
        for client in range(clients):
            order = sorted(rng.permutation(len(labels)), key=lambda at: len(holders[at]))
            for at in order[: self.classes_per_client]:
                holders[at].append(client)
        owner = np.empty(len(samples), dtype=np.int64)
        for label, count, own in zip(labels, each, holders, strict=True):
            if count < len(own):
                msg = (
                    f"class {label} has {count} samples for {len(own)} clients; lower clients or"
                    f" partition.classes_per_client={self.classes_per_client}"
                )
                raise DataError(msg)
            members = rng.permutation(np.flatnonzero(samples.strata == label))
            owner[members] = np.array(own)[np.arange(count) % len(own)]
        return owner

    def _check(self, classes: int, clients: int) -> None:
        needed = -(-classes // clients)
        if not needed <= self.classes_per_client <= classes:
            msg = (
                f"partition.classes_per_client={self.classes_per_client}: {clients} clients share"
                f" {classes} classes, so that allowed are {needed} to {classes}"
            )
            raise DataError(msg)
