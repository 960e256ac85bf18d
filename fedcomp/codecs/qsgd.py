"""QSGD: levels between 0 and the norm of a bucket, right on average."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.numbered import Numbered, NumberedCodec
from fedcomp.codecs.steps import single
from fedcomp.codecs.stochastic import rounded
from fedcomp.coding import quantise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context
    from fedcomp.tensors import Array, TensorSpec


@dataclass(frozen=True)
class Qsgd(NumberedCodec):
    """‖w‖·sgn(w)·ξ / s for each bucket, ξ being |w| / ‖w‖ · s rounded stochastically.

    Alistarh, Grubic, Li, Tomioka, Vojnovic, "QSGD: Communication-Efficient SGD via Gradient
    Quantization and Encoding", NeurIPS 2017, arXiv:1610.02132.  Unbiased, and in a bucket of n
    weights E‖Q(w) − w‖² ≤ min(n / s², √n / s)·‖w‖².

    Parameters
    ----------
    s
        Number of levels above 0; 7 make 4 bits a weight with the coder `fixed`.
    bucket
        How many consecutive weights share a norm of 32 bits; None is all of a tensor.
    coder
        How the levels −s … s are written.
    """

    name: ClassVar[str] = "qsgd"
    about: ClassVar[About] = About(
        paper="Alistarh et al., NeurIPS 2017, arXiv:1610.02132",
        formula="‖w‖·sgn(w)·ξ / s, ξ = |w| / ‖w‖ · s rounded stochastically",
        bias="unbiased",
        cost="O(n)",
    )

    s: Annotated[int, Ge(1), Le(32767)] = 7
    bucket: Annotated[int, Ge(1)] | None = 512
    coder: Coder = "cabac"

    @property
    def contracts(self) -> bool:
        """Whether the bound of the variance, as a share of ‖w‖², is at most 1."""
        n = self.bucket or math.inf
        return min(n / self.s**2, math.sqrt(n) / self.s) <= 1

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return Coding(self.coder)

    def numbered(self, name: str, values: Array, context: Context) -> Numbered | None:
        """Return levels of shares of the norm, and the norms."""
        norms = self.norms(values)
        spread = self._spread(norms, values.shape)
        shares = np.divide(values, spread, out=np.zeros(values.shape), where=spread > 0)
        # The norm of doubles, in float32, may be less than the only value of a bucket.
        quotients = np.clip(shares * self.s, -self.s, self.s)
        levels = rounded(quotients, context.generator(name))
        return Numbered(levels, norms) if levels.any() else None

    def norms(self, values: Array) -> NDArray[np.float32]:
        """Return the norm of each bucket as it travels; 0 where it is next to nothing."""
        single(float(np.abs(values).max()))  # refuses what has no square
        squares = np.square(values.reshape(-1), dtype=np.float64)
        starts = np.arange(0, values.size, self.bucket or values.size)
        norms = np.sqrt(np.add.reduceat(squares, starts))
        single(float(norms.max()))
        return np.where(norms < quantise.SMALLEST_STEP, 0, norms).astype(np.float32)

    def numbers_of(self, spec: TensorSpec) -> int:
        """Return how many buckets a tensor has."""
        return -(-spec.size // (self.bucket or spec.size))

    def fault(self, symbol: Numbered, spec: TensorSpec) -> str:  # noqa: ARG002
        """Say what is wrong with levels or norms."""
        norms = symbol.numbers
        usual = (norms >= quantise.SMALLEST_STEP) & (norms < quantise.STEP_BOUND)
        if not (usual | (norms == 0)).all():
            return f"norms such as {norms[:8].tolist()} no sender would have given"
        spread = self._spread(norms, symbol.levels.shape)
        if (np.abs(symbol.levels) > self.s * (spread > 0)).any():
            return f"has levels beyond {self.s}, or some in an empty bucket"
        return ""

    def weights(self, name: str, symbol: Numbered, context: Context) -> Array:  # noqa: ARG002
        """Return level · norm / s."""
        return symbol.levels * self._spread(symbol.numbers, symbol.levels.shape) / self.s

    def _spread(self, norms: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the norm of each weight's bucket."""
        size = int(np.prod(shape))
        each = np.repeat(norms.astype(np.float64), min(self.bucket or size, size))
        return each[:size].reshape(shape)
