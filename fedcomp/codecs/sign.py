"""Scaled signs: one bit a weight, and the mean magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import single
from fedcomp.coding import quantise
from fedcomp.errors import BitstreamError, CodecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context, Mode
    from fedcomp.tensors import Array


@dataclass(frozen=True)
class Sign(LevelCodec):
    """(‖w‖₁ / n)·sgn(w) for each tensor of n weights, sgn(0) being 1.

    Karimireddy et al., "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", ICML
    2019, arXiv:1901.09847.  Made for feedback: ‖w − C(w)‖² = (1 − ‖w‖₁² / (n‖w‖²))·‖w‖².

    Parameters
    ----------
    coder
        How the signs are written; `fixed` takes one bit each, as in the paper.
    """

    name: ClassVar[str] = "sign"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Karimireddy et al., ICML 2019, arXiv:1901.09847",
        formula="(‖w‖₁ / n)·sgn(w)",
        bias="biased",
        cost="O(n)",
    )

    coder: Coder = "fixed"

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how signs are written."""
        return SignCoding(self.coder)

    def levels(self, name: str, values: Array, context: Context) -> Levels:  # noqa: ARG002
        """Return −1 and 1, and the mean magnitude."""
        mean = single(float(np.abs(values).mean(dtype=np.float64)))
        if mean < quantise.SMALLEST_STEP:
            return Levels.zeros(values.shape)
        return Levels.of(np.where(values < 0, np.int32(-1), np.int32(1)), mean)


@dataclass(frozen=True)
class SignCoding(Coding):
    """Writes 1, −1 and 0 as 0, 1 and 2, so that without zeros no coder keeps a place for them.

    Parameters
    ----------
    zeros
        Whether there may be zeros.

    Examples
    --------
    >>> SignCoding("fixed").encode(np.array([1, -1, -1, 1, 1])).hex()
    '0106'
    """

    zeros: bool = False

    def encode(self, levels: NDArray[Any], base: NDArray[Any] | None = None) -> bytes:
        """Return the bytes of one tensor."""
        if (np.abs(levels) > 1).any() or not (self.zeros or levels.all()):
            msg = f"the levels of signs are 1{', 0' * self.zeros} and -1, there are others"
            raise CodecError(msg)
        return super().encode(np.where(levels == 0, 2, levels < 0).astype(np.int32), base)

    def decode(
        self, data: memoryview, shape: tuple[int, ...], base: NDArray[Any] | None = None
    ) -> NDArray[np.int32]:
        """Return the tensor of that shape."""
        codes = super().decode(data, shape, base)
        if codes.size and not 0 <= codes.min() <= codes.max() <= 1 + self.zeros:
            msg = f"a sign is neither 0 nor 1{' nor 2' * self.zeros}"
            raise BitstreamError(msg)
        return np.array([1, -1, 0], np.int32)[codes]
