"""Threshold sparsification: only changes of a certain size travel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le

from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding, check_alphabet
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import Step, single
from fedcomp.codecs.topk import spanned_levels

if TYPE_CHECKING:
    from fedcomp.codecs.base import Context, Mode
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class Threshold(LevelCodec):
    """Keep the weights with |w| ≥ τ, at a few bits each; none of a tensor where all are smaller.

    Strom, "Scalable distributed DNN training using commodity GPU cloud computing", Interspeech
    2015, with one τ for all; Dryden et al., MLHPC 2016; Aji and Heafield, EMNLP 2017.  To be used
    with feedback, which sends the rest later; ‖w − C(w)‖² = Σ_{|w| < τ} w² + what rounding loses.

    Parameters
    ----------
    tau
        τ of all tensors.
    relative
        τ of each tensor in units of its root mean square; exclusive with `tau`.
    bits
        Width of a kept weight; its step spans the largest one of the tensor, so that one below half
        a step becomes 0.
    coder
        How positions and values are written, as one array of integers that is mostly 0.
    """

    name: ClassVar[str] = "threshold"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Strom, Interspeech 2015; Dryden et al., MLHPC 2016",
        formula="w where |w| ≥ τ, else 0",
        bias="biased",
        cost="O(n)",
    )

    tau: Step | None = None
    relative: Annotated[float, Gt(0), Le(1e6)] | None = 2.5
    bits: Annotated[int, Ge(2), Le(24)] = 8
    coder: Coder = "cabac"

    def __post_init__(self) -> None:
        if (self.tau is None) == (self.relative is None):
            given = f"{self.tau}, {self.relative}"
            msg = f"give either tau or relative, and null for the other; got {given}"
            raise ValueError(msg)
        check_alphabet(self.coder, self.bits)

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return Coding(self.coder)

    def levels(self, name: str, values: Array, context: Context) -> Levels:  # noqa: ARG002
        """Return the levels of what is large enough."""
        sizes = np.abs(values)
        single(float(sizes.max()))  # refuses what has no square
        kept = np.where(sizes >= self._tau(values), values, values.dtype.type(0))
        return spanned_levels(kept, self.bits)

    def _tau(self, values: Array) -> float:
        if self.tau is not None:
            return self.tau
        square = float(np.square(values, dtype=np.float64).mean())
        return (self.relative or 0.0) * math.sqrt(square)
