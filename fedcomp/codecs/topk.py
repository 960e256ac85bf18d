"""Top-k sparsification: only the largest changes travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from fedcomp.codecs.arrays import finite
from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding, check_alphabet
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import spanned
from fedcomp.coding import quantise

if TYPE_CHECKING:
    from fedcomp.codecs.base import Context, Mode, Symbols
    from fedcomp.tensors import Array, Tensors


@dataclass(frozen=True)
class TopK(LevelCodec):
    """Keep the share of weights with the largest magnitude, at a few bits each.

    Strom, "Scalable distributed DNN training using commodity GPU cloud computing", Interspeech
    2015; Aji and Heafield, EMNLP 2017.  To be used with feedback, which sends the rest later.

    Parameters
    ----------
    density
        Share of the weights that is kept; at least one of each selection.
    scope
        Select in each `tensor`, or in all weights of the `model` together.
    bits
        Width of a kept weight; its step spans the largest one of the tensor.
    coder
        How positions and values are written, as one array of integers that is mostly 0.
    """

    name: ClassVar[str] = "topk"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Strom, Interspeech 2015; Aji and Heafield, EMNLP 2017, arXiv:1704.05021",
        formula="w for the k = ⌈p·n⌉ weights of largest |w|, else 0",
        bias="biased",
        cost="O(n)",
    )

    density: Annotated[float, Gt(0), Le(1)] = 0.01
    scope: Literal["tensor", "model"] = "tensor"
    bits: Annotated[int, Ge(2), Le(24)] = 8
    coder: Coder = "cabac"

    def __post_init__(self) -> None:
        check_alphabet(self.coder, self.bits)

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Select among the weights given, then quantise."""
        context.manifest.check(tensors)
        specs = context.manifest.by_name
        hard = {n: finite(n, v) for n, v in tensors.items() if specs[n].is_weight and v.size}
        if self.scope == "model" and hard:
            flat = np.concatenate([value.reshape(-1) for value in hard.values()])
            ends = np.cumsum([value.size for value in hard.values()])[:-1]
            parts = np.split(largest(flat, self.density), ends)
            chosen = dict(zip(hard, parts, strict=True))
        else:
            chosen = {n: largest(v.reshape(-1), self.density) for n, v in hard.items()}
        kept = {name: chosen[name].reshape(value.shape) for name, value in hard.items()}
        return super().quantise({**tensors, **kept}, context)

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return Coding(self.coder)

    def levels(self, name: str, values: Array, context: Context) -> Levels:  # noqa: ARG002
        """Return the levels of what was selected."""
        return spanned_levels(values, self.bits)


def spanned_levels(values: Array, bits: int) -> Levels:
    """Return the nearest levels, at the step at which `bits` bits span the largest value."""
    clipped, step = spanned(values, bits, 1.0)
    return Levels.of(quantise.uniform(clipped, step), step) if step else Levels.zeros(values.shape)


def largest(flat: Array, density: float) -> Array:
    """Return the values with all but the ⌈density · n⌉ of largest magnitude set to 0.

    Examples
    --------
    >>> largest(np.array([1.0, -5.0, 2.0, 0.5]), 0.5)
    array([ 0., -5.,  2.,  0.])
    """
    count = kept_count(density, flat.size)
    if count >= flat.size:
        return flat
    sizes = np.abs(flat)
    threshold = np.partition(sizes, flat.size - count)[flat.size - count]
    keep = sizes > threshold
    ties = np.flatnonzero(sizes == threshold)
    keep[ties[: count - int(np.count_nonzero(keep))]] = True
    return np.where(keep, flat, flat.dtype.type(0))


def kept_count(density: float, size: int) -> int:
    """Return ⌈density · n⌉, at least 1 of what there is.

    Examples
    --------
    >>> kept_count(0.07, 100), kept_count(0.01, 20)  # 0.07 · 100 is 7.000000000000001
    (7, 1)
    """
    return min(size, max(1, int(np.ceil(round(density * size, 6)))))
