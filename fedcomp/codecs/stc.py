"""Sparse ternary compression: the largest changes, all of one size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Gt, Le

from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import single
from fedcomp.codecs.topk import largest
from fedcomp.coding import quantise

if TYPE_CHECKING:
    from fedcomp.codecs.base import Context, Mode
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class Stc(LevelCodec):
    """±μ for the ⌈p·N⌉ largest weights of each tensor, μ being their mean magnitude.

    Sattler, Wiedemann, Müller, Samek, "Robust and Communication-Efficient Federated Learning from
    Non-IID Data", IEEE TNNLS 2020, arXiv:1903.02891.  Made for feedback in both directions.  The
    paper makes biases and norms ternary, too; here they go at `fine_step`, as with every codec.

    Parameters
    ----------
    density
        p; ties at the threshold are all kept, and μ is the mean of them all.
    coder
        How positions and signs are written; the paper's is `golomb`.
    """

    name: ClassVar[str] = "stc"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Sattler et al., IEEE TNNLS 2020, arXiv:1903.02891",
        formula="μ·sgn(w) for the ⌈p·n⌉ weights of largest |w|, μ their mean; else 0",
        bias="biased",
        cost="O(n)",
    )

    density: Annotated[float, Gt(0), Le(1)] = 0.04
    coder: Coder = "golomb"

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return Coding(self.coder)

    def levels(self, name: str, values: Array, context: Context) -> Levels:  # noqa: ARG002
        """Return −1, 0, 1 and μ."""
        sizes = np.abs(values)
        kept = largest(sizes.reshape(-1), self.density)
        chosen = sizes >= kept[kept > 0].min()
        mean = single(float(sizes[chosen].mean(dtype=np.float64)))
        if mean < quantise.SMALLEST_STEP:
            return Levels.zeros(values.shape)
        return Levels.of(np.where(chosen, np.sign(values), 0).astype(np.int32), mean)
