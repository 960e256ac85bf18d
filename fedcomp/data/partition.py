"""Dividing a training set among clients; seeded, and it ends for any input or says why not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt

from fedcomp.errors import DataError

if TYPE_CHECKING:
    from fedcomp.data.base import Samples
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class Partition(ABC):
    """A way to divide samples among clients."""

    name: ClassVar[str]

    def split(self, samples: Samples, clients: int, rng: np.random.Generator) -> list[Array]:
        """Return each client's sample indices, ascending; every sample goes to one client."""
        least = self.least
        if clients * least > len(samples):
            msg = (
                f"clients={clients}: {len(samples)} training samples cannot give each client"
                f" {least} or more; at most {len(samples) // least} clients are possible"
            )
            raise DataError(msg)
        return members(self.owners(samples, clients, rng), clients)

    @property
    def least(self) -> int:
        """The least number of samples that a client gets."""
        return 1

    def groups(self, samples: Samples) -> Array | None:  # noqa: ARG002
        """Return what keeps samples together also within a client, where there is such a thing."""
        return None

    @abstractmethod
    def owners(self, samples: Samples, clients: int, rng: np.random.Generator) -> Array:
        """Return the client, 0 … clients − 1, that each sample goes to."""


@dataclass(frozen=True)
class Iid(Partition):
    """Every client gets a random sample of all.

    Parameters
    ----------
    sizes
        `equal`: they differ by one at most.  `random`: each sample goes to a client drawn for it.
    """

    name: ClassVar[str] = "iid"

    sizes: Literal["equal", "random"] = "equal"

    def owners(self, samples: Samples, clients: int, rng: np.random.Generator) -> Array:
        """Deal, or draw."""
        if self.sizes == "random":
            return filled_up(rng.integers(clients, size=len(samples)), clients, 1, rng)
        return rng.permutation(np.arange(len(samples)) % clients)


@dataclass(frozen=True)
class Drawn(Partition):
    """Clients get shares drawn from Dir(alpha).

    Parameters
    ----------
    alpha
        Concentration; small values give few clients most of what is shared out.
    min_samples
        Clients that got fewer are filled up with random samples of the largest ones.
    """

    alpha: Annotated[float, Gt(0)] = 0.5
    min_samples: Annotated[int, Ge(1)] = 10

    @property
    def least(self) -> int:
        """The least number of samples that a client gets."""
        return self.min_samples


@dataclass(frozen=True)
class Quantity(Drawn):
    """Quantity skew: every client gets a random sample of all, of a size drawn from Dir(alpha)."""

    name: ClassVar[str] = "quantity"

    def owners(self, samples: Samples, clients: int, rng: np.random.Generator) -> Array:
        """Cut a shuffled set in pieces of the drawn sizes."""
        owner = rng.permutation(portions(len(samples), shares(self.alpha, clients, rng)))
        return filled_up(owner, clients, self.min_samples, rng)


def portions(count: int, share: Array) -> Array:
    """Return `count` owners in ascending order, in numbers that follow the shares.

    Examples
    --------
    >>> portions(5, np.array([0.5, 0.0, 0.5])).tolist()
    [0, 0, 2, 2, 2]
    """
    ends = np.rint(np.cumsum(share)[:-1] * count)
    return np.searchsorted(ends, np.arange(count), side="right")


def shares(alpha: float, clients: int, rng: np.random.Generator) -> Array:
    """Draw from Dir(alpha); a tiny alpha underflows to 0/0, whose limit is one winner."""
    draw = rng.gamma(alpha, size=clients)
    if not draw.sum() > 0:
        draw = np.zeros(clients)
        draw[rng.integers(clients)] = 1.0
    return np.asarray(draw / draw.sum())


def members(owner: Array, clients: int) -> list[Array]:
    """Return the samples of each client, ascending."""
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.cumsum(np.bincount(owner, minlength=clients))[:-1])


def filled_up(owner: Array, clients: int, least: int, rng: np.random.Generator) -> Array:
    """Give each client that has too few random samples of the largest, which are levelled."""
    sizes = np.bincount(owner, minlength=clients)
    missing = np.maximum(least - sizes, 0)
    needed = int(missing.sum())
    if not needed:
        return owner

    def above(level: int) -> int:
        return int(np.maximum(sizes - level, 0).sum())

    levels = range(int(sizes.max()) + 1)
    level = bisect_right(levels, -needed, key=lambda level: -above(level)) - 1
    spare = np.maximum(sizes - level, 0)
    spare[np.flatnonzero(spare)[: above(level) - needed]] -= 1
    held = members(owner, clients)
    moved = [rng.permutation(held[rich])[: spare[rich]] for rich in np.flatnonzero(spare)]
    owner[rng.permutation(np.concatenate(moved))] = np.repeat(np.arange(clients), missing)
    return owner
