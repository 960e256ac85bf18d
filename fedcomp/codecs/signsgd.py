"""Signs of one size: what a majority vote counts, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding  # noqa: TC001  for the settings
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.sign import SignCoding
from fedcomp.codecs.steps import Step  # noqa: TC001  the settings are read from its annotation

if TYPE_CHECKING:
    from fedcomp.codecs.base import Context, Mode
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class SignSgd(LevelCodec):
    """step·sgn(w), one step for all weights, which costs nothing; sgn(0) = 0.

    Bernstein, Zhao, Azizzadenesheli, Anandkumar, "signSGD with Majority Vote is Communication
    Efficient and Fault Tolerant", ICLR 2019, arXiv:1810.05291.  With server_step=majority, which
    takes the same step.

    Parameters
    ----------
    step
        The size of all weights that are not 0.
    coder
        How the signs are written; `fixed` takes one bit each, two in a tensor that holds a 0, such
        as the tie of a vote.
    """

    name: ClassVar[str] = "signsgd"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Bernstein et al., ICLR 2019, arXiv:1810.05291",
        formula="step·sgn(w)",
        bias="biased",
        cost="O(n)",
    )

    step: Step = 0.01
    coder: Coder = "cabac"

    @property
    def contracts(self) -> bool:
        """No: the size of a vote has nothing to do with that of the weights."""
        return False

    def weight_step(self, context: Context) -> float:  # noqa: ARG002
        """Return the step, which both ends know."""
        return self.step

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how signs are written."""
        return SignCoding(self.coder, zeros=True)

    def levels(self, name: str, values: Array, context: Context) -> Levels:  # noqa: ARG002
        """Return the signs."""
        return Levels.of(np.sign(values).astype(np.int32), self.step)
