"""How the server averages weights W and their scale factors S.

additive   W = mean of W_i,  S = mean of S_i: S ⊙ W is the mean of the products up to their
covariance over the clients
product    E = mean of S_i ⊙ W_i,  S = mean of S_i,  W = E / S: S ⊙ W is the mean exactly
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from fedcomp.methods import ServerStep, StepSettings
from strategies.no_step import Keep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.methods import Lookup
    from fedcomp.setup import Setup
    from fedcomp.tensors import Array, Tensors

LEAST = 1e-3
"""Averaged scale factors below it are raised to it, so that W = E / S stays in range."""


class ProductAveraging(ServerStep):
    """Let the strategy aggregate S_i ⊙ W_i in the place of W_i.

    Parameters
    ----------
    scales
        Names of scale factors by that of their weights; both travel.
    """

    def __init__(self, scales: Mapping[str, str]) -> None:
        self._scales = scales

    def view(self, model: Lookup) -> Lookup:
        """Return scaled weights in the place of weights."""

        def seen(name: str) -> Array:
            value = model(name)
            return value * model(self._scales[name]) if name in self._scales else value

        return seen

    def after_aggregate(
        self,
        model: Tensors,
        side: Mapping[str, Tensors],  # noqa: ARG002
        metrics: Mapping[str, float],  # noqa: ARG002
        round_number: int,  # noqa: ARG002
    ) -> tuple[Tensors, Tensors]:
        """Divide the scaled weights by the averaged scale factors."""
        scales = {name: np.maximum(model[name], LEAST) for name in self._scales.values()}
        weights = {name: model[name] / scales[scale] for name, scale in self._scales.items()}
        return {**model, **weights, **scales}, {}


@dataclass(frozen=True)
class Averaging(StepSettings):
    """How W and S are averaged.

    Parameters
    ----------
    averaging
        `additive` or `product`, see above.
    """

    name: ClassVar[str] = "fsfl"

    averaging: Literal["additive", "product"] = "additive"

    def create(self, setup: Setup) -> ServerStep:
        """Return the step for one run."""
        if self.averaging == "additive":
            return Keep()
        from fedcomp.models.scaling import scale_names

        return ProductAveraging(scale_names(setup.manifest.by_name))
