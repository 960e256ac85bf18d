"""Evenly spaced levels between the smallest and the largest weight: what CosSGD compares with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le, Lt

from fedcomp.codecs.base import About
from fedcomp.codecs.clipping import SETTLING, largest_kept
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.numbered import Numbered, NumberedCodec
from fedcomp.codecs.rotation import rotated, unrotated
from fedcomp.codecs.steps import single
from fedcomp.codecs.stochastic import rounded
from fedcomp.coding import quantise

if TYPE_CHECKING:
    from fedcomp.codecs.base import Context
    from fedcomp.tensors import Array, TensorSpec


@dataclass(frozen=True)
class Linear(NumberedCodec):
    """min w + k·(max w − min w) / (2^bits − 1) for each tensor, k being a whole number from 0 on.

    Konečný et al., "Federated Learning: Strategies for Improving Communication Efficiency",
    arXiv:1610.05492, with and without their rotation.  There is no level at 0, so that one bit is
    enough; `uniform` has one.

    Parameters
    ----------
    bits
        Width of a level.
    clip
        Share of the non-zero weights, the largest, that are clipped before.
    rounding
        `nearest`, or `stochastic`, right on average where nothing is clipped.
    rotation
        `hadamard`: the range is that of the tensor after a random rotation, which no single large
        weight stretches.
    coder
        How levels are written.
    """

    name: ClassVar[str] = "linear"
    about: ClassVar[About] = About(
        paper="Konečný et al., arXiv:1610.05492",
        formula="min w + k·(max w − min w) / (2^bits − 1)",
        bias="unbiased; nearest rounding or clipping: biased",
        cost="O(n), rotated O(n log n)",
    )

    bits: Annotated[int, Ge(1), Le(16)] = 2
    clip: Annotated[float, Ge(0), Lt(1)] = 0.0
    rounding: Literal["nearest", "stochastic"] = "stochastic"
    rotation: Literal["none", "hadamard"] = "none"
    coder: Coder = "cabac"

    @property
    def contracts(self) -> bool:
        """No: the smallest weights move to the next level, which may be far away."""
        return False

    @property
    def settles(self) -> bool:
        """Whether the largest weights do not stretch two or three steps over all others."""
        enough = 4 if self.rotation == "none" else 3
        return self.bits >= enough or (self.bits > 1 and self.clip >= SETTLING)

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return Coding(self.coder)

    def numbers_of(self, spec: TensorSpec) -> int:  # noqa: ARG002
        """Return 2: the smallest and the largest value."""
        return 2

    def numbered(self, name: str, values: Array, context: Context) -> Numbered | None:
        """Return levels k − 2^(bits − 1), and the range."""
        single(float(np.abs(values).max()))  # refuses what has no square
        if self.rotation == "hadamard":
            turned = rotated(values.reshape(-1), context.generator(name))
            values = turned.reshape(values.shape)
        if self.clip:
            bound = largest_kept(values, self.clip)
            values = np.clip(values, -bound, bound)
        ends = np.array([values.min(), values.max()], np.float32)
        if single(float(np.abs(ends).max())) < quantise.SMALLEST_STEP:
            return None
        low, high = ends.astype(np.float64)
        steps = 2**self.bits - 1
        places = np.clip((values - low) / (high - low or 1.0), 0, 1) * steps
        if self.rounding == "stochastic":
            generator = context.generator(f"{name}, rounding")
            indices = rounded(places, generator)
        else:
            indices = np.floor(places + 0.5).astype(np.int32)
        return Numbered(indices - np.int32(2 ** (self.bits - 1)), ends)

    def fault(self, symbol: Numbered, spec: TensorSpec) -> str:  # noqa: ARG002
        """Say what is wrong with levels or range."""
        half = 2 ** (self.bits - 1)
        low, high = symbol.numbers
        if not -quantise.STEP_BOUND < low <= high < quantise.STEP_BOUND:
            return f"a range from {low} to {high} no sender would have given"
        if ((symbol.levels < -half) | (symbol.levels >= half)).any():
            return f"has levels beyond the {2 * half} of {self.bits} bits"
        return ""

    def weights(self, name: str, symbol: Numbered, context: Context) -> Array:
        """Return the levels' values, rotated back."""
        half = 2 ** (self.bits - 1)
        low, high = symbol.numbers.astype(np.float64)
        table = low + np.arange(2 * half) * ((high - low) / (2 * half - 1))
        values: Array = table.astype(np.float32)[symbol.levels + half]
        if self.rotation == "none":
            return values
        return unrotated(values.reshape(-1), context.generator(name)).reshape(values.shape)
