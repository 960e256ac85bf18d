"""Dividing a training set among clients; seeded, and it ends for any input or says why not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class Partition(ABC):
    """A way to divide samples among clients."""

    name: ClassVar[str]

    def split(self, targets: Array, clients: int, rng: np.random.Generator) -> list[Array]:
        """Return each client's sample indices, ascending; every sample goes to one client."""
        least = self.least
        if clients * least > len(targets):
            msg = (
                f"{len(targets)} training samples cannot give {clients} clients {least} or more"
                f" each; at most {len(targets) // least} clients are possible"
            )
            raise DataError(msg)
        return [np.sort(part) for part in self._divide(targets, clients, rng)]

    @property
    def least(self) -> int:
        """The least number of samples that a client gets."""
        return 1

    @abstractmethod
    def _divide(self, targets: Array, clients: int, rng: np.random.Generator) -> list[Array]: ...


@dataclass(frozen=True)
class Iid(Partition):
    """Every client gets a random sample of all; sizes differ by one at most."""

    name: ClassVar[str] = "iid"

    def _divide(self, targets: Array, clients: int, rng: np.random.Generator) -> list[Array]:
        return np.array_split(rng.permutation(len(targets)), clients)


@dataclass(frozen=True)
class Dirichlet(Partition):
    """Label skew: each class is dealt in shares drawn from Dir(alpha).

    Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", arXiv:1909.06335.

    Parameters
    ----------
    alpha
        Concentration; small values give each client few classes.
    min_samples
        Clients that got fewer are filled up with random samples of the largest ones.
    """

    name: ClassVar[str] = "dirichlet"

    alpha: Annotated[float, Gt(0)] = 0.5
    min_samples: Annotated[int, Ge(1)] = 10

    @property
    def least(self) -> int:
        """The least number of samples that a client gets."""
        return self.min_samples

    def _divide(self, targets: Array, clients: int, rng: np.random.Generator) -> list[Array]:
        owner = np.empty(len(targets), dtype=np.int64)
        for label in np.unique(targets):
            members = rng.permutation(np.flatnonzero(targets == label))
            bounds = np.cumsum(_shares(self.alpha, clients, rng)) * len(members)
            cuts = np.minimum(np.rint(bounds[:-1]).astype(np.int64), len(members))
            for client, part in enumerate(np.split(members, cuts)):
                owner[part] = client
        self._fill_up(owner, clients, rng)
        return [np.flatnonzero(owner == client) for client in range(clients)]

    def _fill_up(self, owner: Array, clients: int, rng: np.random.Generator) -> None:
        """Move samples from the largest client to each that has too few, one at a time."""
        sizes = np.bincount(owner, minlength=clients)
        while sizes.min() < self.min_samples:
            poor, rich = int(sizes.argmin()), int(sizes.argmax())
            owner[rng.choice(np.flatnonzero(owner == rich))] = poor
            sizes[poor] += 1
            sizes[rich] -= 1


def _shares(alpha: float, clients: int, rng: np.random.Generator) -> Array:
    """Draw from Dir(alpha); a tiny alpha underflows to 0/0, whose limit is one winner."""
    draw = rng.gamma(alpha, size=clients)
    if not draw.sum() > 0:
        draw = np.zeros(clients)
        draw[rng.integers(clients)] = 1.0
    return np.asarray(draw / draw.sum())
