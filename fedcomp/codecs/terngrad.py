"""TernGrad: gradients in three values, right on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Gt

from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import single
from fedcomp.codecs.stochastic import rounded
from fedcomp.coding import quantise

if TYPE_CHECKING:
    from fedcomp.codecs.base import Context, Mode
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class TernGrad(LevelCodec):
    """s·sgn(w)·b for each tensor, s = max|w| and b = 1 with probability |w| / s, else 0.

    Wen et al., "TernGrad: Ternary Gradients to Reduce Communication in Distributed Deep Learning",
    NeurIPS 2017, arXiv:1705.07878.  Unbiased but for what is clipped; E‖Q(w)‖² = s·‖w‖₁.

    Parameters
    ----------
    clip
        Values beyond `clip`·σ are clipped before, which makes s and thus the variance smaller; σ is
        the standard deviation about 0, their mean in the paper's model.  None clips nothing.
    coder
        How the levels −1, 0, 1 are written.
    """

    name: ClassVar[str] = "terngrad"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Wen et al., NeurIPS 2017, arXiv:1705.07878",
        formula="s·sgn(w)·b, s = max|w|, b = 1 with probability |w| / s, else 0",
        bias="unbiased with clip=null",
        cost="O(n)",
    )

    clip: Annotated[float, Gt(0)] | None = 2.5
    coder: Coder = "cabac"

    @property
    def contracts(self) -> bool:
        """Whether the variance s·‖w‖₁ − ‖w‖² is bounded by ‖w‖²; it is not."""
        return False

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return Coding(self.coder)

    def levels(self, name: str, values: Array, context: Context) -> Levels:
        """Return −1, 0, 1 and s."""
        largest = float(np.abs(values).max())
        if single(largest) < quantise.SMALLEST_STEP:  # or refuses what no float32 can say
            return Levels.zeros(values.shape)
        if self.clip is not None:
            deviation = float(np.sqrt(np.square(values, dtype=np.float64).mean()))
            largest = min(largest, self.clip * deviation)
        scale = single(max(largest, quantise.SMALLEST_STEP))
        shares = np.clip(values / np.float64(scale), -1, 1)
        return Levels.of(rounded(shares, context.generator(name)), scale)
