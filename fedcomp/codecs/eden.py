"""EDEN: a random rotation, then the best quantiser of normal values; DRIVE is its 1 bit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Le

from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.eden_tables import CENTROIDS
from fedcomp.codecs.numbered import Numbered, NumberedCodec
from fedcomp.codecs.rotation import blocks, rotated, unrotated
from fedcomp.codecs.steps import single
from fedcomp.coding import quantise
from fedcomp.coding.kernels import late_kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context
    from fedcomp.tensors import Array, TensorSpec


@dataclass(frozen=True)
class Eden(NumberedCodec):
    """R⁻¹(S·Q(R·w)), R a random rotation, Q the nearest centroid of N(0, ‖w‖² / n) by Lloyd-Max.

    Vargaftik et al., "DRIVE: One-bit Distributed Mean Estimation", NeurIPS 2021, arXiv:2105.08339;
    "EDEN: Communication-Efficient and Robust Distributed Mean Estimation for Federated Learning",
    ICML 2022, arXiv:2108.08842.  Whatever w is, E‖ŵ − w‖² is 0.571, 0.133, 0.0358, 0.0096 of ‖w‖²
    at 1 to 4 bits in tensors of a thousand weights or more.

    A tensor below 2^17 weights has one S of 32 bits, a larger one one for each 2^16: no weight is
    padded.  Tensors of a few weights, which no rotation by signs makes normal, are biased.

    Parameters
    ----------
    bits
        Of a weight.
    unbiased
        S = ‖w‖² / ⟨R·w, Q(R·w)⟩, with which the mean over rotations is w; else the S of least
        squares, ⟨R·w, Q⟩ / ‖Q‖², whose errors are smaller and made for feedback.
    coder
        How the centroids' numbers are written; `fixed` takes `bits` each, as in the papers.
    """

    name: ClassVar[str] = "eden"
    about: ClassVar[About] = About(
        paper="Vargaftik et al., ICML 2022, arXiv:2108.08842; 1 bit: DRIVE, arXiv:2105.08339",
        formula="R⁻¹(S·Q(R·w)), R a random Hadamard rotation, Q of Lloyd-Max",
        bias="unbiased; biased with unbiased=false",
        cost="O(n log n)",
    )

    bits: Annotated[int, Ge(1), Le(8)] = 1
    unbiased: bool = True
    coder: Coder = "fixed"

    @property
    def contracts(self) -> bool:
        """Whether S is that of least squares; the other one lengthens w, of few weights too far."""
        return not self.unbiased

    @property
    def settles(self) -> bool:
        """Yes: E‖ŵ − w‖² is at most 0.58 of ‖w‖² in tensors of some size."""
        return True

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how numbers of centroids are written."""
        return Coding(self.coder)

    def weight_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """Return how many rotated weights travel; they have no rows."""
        return (spec.size,)

    def numbers_of(self, spec: TensorSpec) -> int:
        """Return how many scales a tensor has."""
        return len(blocks(spec.size))

    def numbered(self, name: str, values: Array, context: Context) -> Numbered | None:
        """Return k for centroid k above 0, −1 − k for its opposite, and a scale for each block."""
        single(float(np.abs(values).max()))  # refuses what has no square
        turned = rotated(values.reshape(-1), context.generator(name))
        levels = np.empty(turned.size, np.int32)
        scales = [single(self._quantised(turned[b], levels[b])) for b in blocks(turned.size)]
        return Numbered(levels, np.array(scales, np.float32)) if any(scales) else None

    def fault(self, symbol: Numbered, spec: TensorSpec) -> str:
        """Say what is wrong with numbers of centroids or scales."""
        levels, scales = symbol
        usual = (scales >= quantise.SMALLEST_STEP) & (scales < quantise.STEP_BOUND)
        if not (usual | (scales == 0)).all() or not scales.any():
            return f"scales such as {scales[:8].tolist()} no sender would have given"
        half = 2 ** (self.bits - 1)
        if levels.min() < -half or levels.max() >= half:
            return f"has levels beyond {-half} … {half - 1}"
        if any(levels[b].any() for b, s in zip(blocks(spec.size), scales, strict=True) if not s):
            return "has levels in an empty block"
        return ""

    def weights(self, name: str, symbol: Numbered, context: Context) -> Array:
        """Return R⁻¹ of each scale times its centroids."""
        above = np.array(CENTROIDS[self.bits])
        table = np.concatenate([above, -above[::-1]])  # where −1 is the last one
        out = np.empty(symbol.levels.size, np.float32)
        for block, scale in zip(blocks(out.size), symbol.numbers, strict=True):
            out[block] = (table * np.float64(scale)).astype(np.float32)[symbol.levels[block]]
        shape = context.manifest.by_name[name].shape
        return unrotated(out, context.generator(name)).reshape(shape)

    def _quantised(self, turned: NDArray[np.float32], levels: NDArray[np.int32]) -> float:
        """Fill the levels of a block and return its scale; 0 where it is next to nothing."""
        deviation = math.sqrt(float(np.square(turned, dtype=np.float64).mean()))
        if deviation < quantise.SMALLEST_STEP:
            levels[:] = 0
            return 0.0
        above = np.array(CENTROIDS[self.bits])
        middles = (above[1:] + above[:-1]) / 2
        bounds = np.append(middles, np.inf)
        width = np.diff([0, *middles, above[-1]]).min()
        first = np.searchsorted(bounds, np.arange(0, above[-1], width), "right")
        product, square = _nearest(turned, 1 / deviation, 1 / width, first, bounds, above, levels)
        scale = deviation * (turned.size / product if self.unbiased else product / square)
        return float(max(scale, quantise.SMALLEST_STEP))


@late_kernel
def _nearest(
    values: Any, scale: float, density: float, first: Any, bounds: Any, above: Any, levels: Any
) -> Any:
    """Set the level of each value times the scale; return ⟨values·scale, Q⟩ and ‖Q‖².

    Bounds are at least 1 / density apart, so that what lies between i and i + 1 of that is in cell
    `first[i]` or in the next one.
    """
    product = 0.0
    square = 0.0
    last = len(first) - 1
    for i in range(len(values)):
        value = values[np.uint64(i)]
        size = abs(value) * scale
        cell = first[np.uint64(min(size * density, last))]
        cell += size >= bounds[np.uint64(cell)]
        centroid = above[np.uint64(cell)]
        product += centroid * size
        square += centroid * centroid
        levels[np.uint64(i)] = cell if value >= 0 else ~cell
    return product, square
