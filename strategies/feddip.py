"""FedDIP at the server: from time to time only the largest weights of all layers stay."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Lt

from fedcomp.training.pruning import cubic_sparsity, magnitude_masks
from strategies.masking import Masking, MaskingSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.methods import ServerStep
    from fedcomp.setup import Setup
    from fedcomp.tensors import Tensors

log = logging.getLogger(__name__)


class Reconfiguration(Masking):
    """Masks each aggregate; every so many rounds finds new masks by magnitude."""

    def __init__(self, setup: Setup, plan: FedDip) -> None:
        super().__init__(setup)
        self._plan = plan

    def after_aggregate(
        self,
        model: Tensors,
        side: Mapping[str, Tensors],  # noqa: ARG002
        metrics: Mapping[str, float],
        round_number: int,
    ) -> tuple[Tensors, Tensors]:
        """Return the sparse model."""
        sparsity = self._plan.sparsity(round_number, self._rounds)
        self.charge(sparsity, metrics)
        if self._plan.reconfigures(round_number):
            self._reconfigure(model, sparsity, round_number)
        return self.masked(model), {}

    def _reconfigure(self, model: Tensors, sparsity: float, round_number: int) -> None:
        weights = {name: model[name] for name in self._shapes}
        nested = self._plan.drops_zeros(round_number)
        masks, spared = magnitude_masks(self.masked(weights) if nested else weights, sparsity)
        for name, old in self._masks.items() if nested else ():
            masks[name] &= old  # of weights that are zero any may have been chosen
            masks[name] = masks[name] if masks[name].any() else old
        self._masks = masks
        if spared:
            log.warning(
                "round %d: at a sparsity of %.4f nothing would be left of %s;"
                " the largest weight stays",
                *(round_number, sparsity, ", ".join(spared)),
            )


@dataclass(frozen=True)
class FedDip(MaskingSettings):
    """Sparsity s_t = s_p + (s_0 − s_p)(1 − t/T)³ over the prunable weights, ranked together by |w|.

    Long et al., "FedDIP: Federated Learning with Extreme Dynamic Pruning and Incremental
    Regularization", ICDM 2023, arXiv:2309.06805.  Prunable are the weights of layers, but for 1 × 1
    convolutions on the shortcuts of residual blocks.

    Parameters
    ----------
    start, target
        s_0 and s_p.
    interval
        Rounds between reconfigurations, of which the first follows round 1.
    reconfigure
        `mask_then_prune`: the old masks apply before the new ones are found, which lie in them, as
        in the published code; `prune_dense_average`: clients send all weights in such rounds, and
        those that have grown come back (Lin et al., ICLR 2020, arXiv:2006.07253).
    """

    name: ClassVar[str] = "feddip"

    start: Annotated[float, Ge(0), Lt(1)] = 0.5
    target: Annotated[float, Ge(0), Lt(1)] = 0.95
    interval: Annotated[int, Ge(1)] = 5
    reconfigure: Literal["mask_then_prune", "prune_dense_average"] = "mask_then_prune"

    def __post_init__(self) -> None:
        if self.start > self.target:
            msg = f"start={self.start} is above target={self.target}: masks grow sparser"
            raise ValueError(msg)

    def sparsity(self, round_number: int, rounds: int) -> float:
        """Return s_t, t = round − 1."""
        return cubic_sparsity(round_number, rounds, self.start, self.target)

    def reconfigures(self, round_number: int) -> bool:
        """Tell whether new masks follow a round."""
        return (round_number - 1) % self.interval == 0

    def drops_zeros(self, round_number: int) -> bool:
        """Tell whether the old masks apply to the aggregate of a round."""
        nested = self.reconfigure == "mask_then_prune"
        return round_number > 1 and (nested or not self.reconfigures(round_number))

    def create(self, setup: Setup) -> ServerStep:
        """Return the step for one run."""
        return Reconfiguration(setup, self)
