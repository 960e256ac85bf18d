"""Uniform quantisation: k bits a weight or a given step, nearest or unbiased."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding, check_alphabet
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import Step, single, spanned
from fedcomp.coding import quantise

if TYPE_CHECKING:
    from fedcomp.codecs.base import Context
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class Uniform(LevelCodec):
    """q = round(w / Δ) for weights, with one Δ for all or one for each tensor.

    Parameters
    ----------
    bits
        Width of a level; Δ = Q(|w|) / (2^(bits−1) − 1) for each tensor, Q being the quantile at
        `share`, and what lies beyond is clipped.
    step
        Δ of all weights; exclusive with `bits`.
    share
        Share of the weights that `bits` bits span.
    rounding
        `nearest`, or `stochastic`: up with the probability of the remainder, so that the mean of
        what arrives is what was sent (where nothing is clipped).
    coder
        How the levels are written.
    """

    name: ClassVar[str] = "uniform"
    about: ClassVar[About] = About(
        paper="none of its own: the textbook quantiser",
        formula="Δ·round(w / Δ)",
        bias="biased; rounding=stochastic: unbiased",
        cost="O(n)",
    )

    bits: Annotated[int, Ge(2), Le(24)] | None = 8
    step: Step | None = None
    share: Annotated[float, Gt(0), Le(1)] = 1.0
    rounding: Literal["nearest", "stochastic"] = "nearest"
    coder: Coder = "cabac"

    def __post_init__(self) -> None:
        if (self.bits is None) == (self.step is None):
            msg = f"give either bits or step, and null for the other; got {self.bits}, {self.step}"
            raise ValueError(msg)
        check_alphabet(self.coder, self.bits or 0)

    @property
    def contracts(self) -> bool:
        """Whether each weight goes to the nearest level, and 0 is one."""
        return self.rounding == "nearest"

    @property
    def settles(self) -> bool:
        """Whether rounding is to the nearest, to a given step, or to many of them."""
        return self.contracts or (self.bits or 24) >= 4

    def weight_step(self, context: Context) -> float:  # noqa: ARG002
        """Return the step if it is a setting."""
        return self.step or 0.0

    @property
    def keeps_zeros(self) -> bool:
        """In mode absolute, where a zero has level 0."""
        return self.mode == "absolute"

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return Coding(self.coder)

    def levels(self, name: str, values: Array, context: Context) -> Levels:
        """Return rounded levels."""
        step = single(self.weight_step(context))
        if self.bits is not None:
            values, step = spanned(values, self.bits, self.share)
        if not step and self.bits is not None:
            return Levels.zeros(values.shape)
        levels = quantise.uniform(values, step)  # refuses what no level can say
        if self.rounding == "stochastic":
            draws = context.generator(name).random(values.shape)
            drawn = np.floor(values / np.float64(step) + draws)
            if self.bits is not None:  # the last bit of the quotient may be one too many
                drawn.clip(*quantise.level_range(self.bits, signed=bool((values < 0).any())), drawn)
            levels = drawn.astype(np.int32)
        return Levels.of(levels, step)
