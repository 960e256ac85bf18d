"""Levels of few bits, 0 where that saves more than it costs, written as changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le

from fedcomp.codecs import assignment
from fedcomp.codecs.assignment import Bound  # noqa: TC001  as that of Step
from fedcomp.codecs.base import About, Mode
from fedcomp.codecs.coders import Coding
from fedcomp.codecs.grid import grid_for, step_of
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import Step  # noqa: TC001  the settings are read from its annotation
from fedcomp.tensors import full_digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context
    from fedcomp.tensors import Array, Manifest, Tensors, TensorSpec


@dataclass(frozen=True)
class Ecq(LevelCodec):
    """Wiedemann et al., arXiv:2004.00935, as generalised by Becking et al., arXiv:2109.04236.

    A tensor that lies on a grid of `bits` already, on the uplink also on one of twice the width, is
    taken as it is: so the levels that a client has trained with arrive as they are.

    Parameters
    ----------
    bits, share
        Width of a level, and the share of each tensor's weights that the levels span, all but the
        largest, see `fedcomp.codecs.grid`.
    gamma, bound
        γ and λ_max, the price of a bit in the choice of levels, see `fedcomp.codecs.assignment`: 0
        is the nearest level, 1 almost nothing but zeros.
    predict
        In mode absolute, levels are written as differences to those of what the receiver holds.
    """

    name: ClassVar[str] = "ecq"
    about: ClassVar[About] = About(
        paper="Wiedemann et al., arXiv:2004.00935; Becking et al., arXiv:2109.04236",
        formula="Δ·k, k = argmin (w − Δ·k)² − λ·log₂ P_k",
        bias="biased",
        cost="O(n)",
    )

    mode: Mode = "absolute"
    fine_step: Step = 2.0**-10
    bits: Annotated[int, Ge(2), Le(8)] = 4
    share: Annotated[float, Gt(0), Le(1)] = 0.999
    gamma: Annotated[float, Ge(0), Le(1)] = 0.05
    bound: Bound = "min"
    predict: bool = True

    @property
    def keeps_zeros(self) -> bool:
        """Whether the model itself travels: 0 is the cheapest level for 0."""
        return self.mode == "absolute"

    def anchor(self, model: Tensors, manifest: Manifest) -> bytes:
        """Return a hash of all floats, from which levels are predicted."""
        if not self._predicts:
            return b""
        return full_digest({s.name: model[s.name] for s in manifest.specs if s.is_float})

    def levels(self, name: str, values: Array, context: Context) -> Levels:
        """Return the levels that lie there already, or the cheapest ones.

        What the server publishes has no more than 2^bits of them.
        """
        if step := step_of(values, self.bits):
            found = np.rint(values / step).astype(np.int32)
            width = int(found.max(initial=0)) - int(found.min(initial=0)) + 1
            if context.direction == "uplink" or width <= 2**self.bits:
                return Levels.of(found, step)
        grid = grid_for(values, self.bits, self.share)
        if not grid.step:
            return Levels.zeros(values.shape)
        gamma = self.gamma * share_of(name, context.manifest)
        priced = assignment.costs(values, grid, gamma, self.bound)
        return Levels.of(assignment.assign(values, priced), grid.step)

    def coding(self, context: Context) -> Coding:
        """Return the coder, whose contexts know where the receiver has zeros."""
        held = (context.reference or {}) if self._predicts else {}

        def base(name: str) -> NDArray[np.int32] | None:
            return np.sign(held[name]).astype(np.int32) if name in held else None

        return Coding("cabac", base=base)

    def expected(self, spec: TensorSpec, step: float, context: Context) -> NDArray[np.int32] | None:
        """Return the levels nearest to what the receiver holds."""
        held = (context.reference or {}).get(spec.name) if self._predicts else None
        if held is None:
            return None
        most = 2**self.bits if spec.is_weight else 2**29
        return np.clip(np.rint(held / np.float64(step)), -most, most).astype(np.int32)

    @property
    def _predicts(self) -> bool:
        return self.predict and self.mode == "absolute"


def share_of(name: str, manifest: Manifest) -> float:
    """Return δ of a weight tensor among those of a manifest."""
    sizes = {spec.name: spec.size for spec in manifest.weights}
    return assignment.layer_share(sizes[name], max(sizes.values()))
