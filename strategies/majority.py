"""Majority vote: the server moves every weight by one step, to where most clients went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedcomp.codecs.steps import Step  # noqa: TC001  the settings are read from its annotation
from fedcomp.methods import ServerStep, StepSettings
from fedcomp.tensors import add

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.setup import Setup
    from fedcomp.tensors import Array, Tensors


class MajorityVote(ServerStep):
    """Publish T + step·sgn(aggregate − T) for weights, all else as it was aggregated.

    Parameters
    ----------
    weights
        The weights of version 0, the first T.
    step
        How far they move.
    voters
        How many clients there are in a round.
    """

    def __init__(self, weights: Tensors, step: float, voters: int) -> None:
        self._last = weights
        self._step = step
        self._voters = voters

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the last model's weights."""
        return dict(self._last), {}

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:  # noqa: ARG002
        """Take up a saved state."""
        self._last = {name: arrays[name] for name in self._last}

    def after_aggregate(
        self,
        model: Tensors,
        side: Mapping[str, Tensors],  # noqa: ARG002
        metrics: Mapping[str, float],  # noqa: ARG002
        round_number: int,  # noqa: ARG002
    ) -> tuple[Tensors, Tensors]:
        """Return the last model, moved by the vote."""
        step, voters = self._step, self._voters
        self._last = {n: moved(old, model[n], step, voters) for n, old in self._last.items()}
        return {**model, **self._last}, {}


def moved(old: Array, new: Array, step: float, voters: int) -> Array:
    """Return old + step·sgn(new − old).

    A tie is what is nearer to `old` than half of one of so many votes, or than the rounding of
    their sum.

    Examples
    --------
    >>> moved(np.array([1.0, 1.0, 1.0]), np.array([0.9, 1.1, 1.00001]), 0.25, 3).tolist()
    [0.75, 1.25, 1.0]
    """
    change = new - old
    rounding = (voters + 2) * np.finfo(old.dtype).eps * (np.abs(old) + step)
    tie = np.abs(change) <= np.maximum(step / (2 * voters), rounding)
    votes = np.where(tie, 0, np.sign(change))
    return add({"": old}, {"": votes * np.float64(np.float32(step))})[""]  # as a receiver adds it


@dataclass(frozen=True)
class Majority(StepSettings):
    """Majority vote after any strategy; the mean of equal votes has the sign of most of them.

    Bernstein, Zhao, Azizzadenesheli, Anandkumar, "signSGD with Majority Vote is Communication
    Efficient and Fault Tolerant", ICLR 2019, arXiv:1810.05291.  For uplinks that send signs of one
    size, codec signsgd; clients count by their number of samples, as the strategy has it.

    Parameters
    ----------
    step
        How far each weight moves; the learning rate of signSGD.
    """

    name: ClassVar[str] = "majority"

    step: Step = 0.01

    def create(self, setup: Setup) -> ServerStep:
        """Return the step for one run, which starts from version 0."""
        initial = setup.take_initial()
        weights = {spec.name: initial[spec.name] for spec in setup.manifest.weights}
        return MajorityVote(weights, self.step, setup.settings.clients_per_round)
