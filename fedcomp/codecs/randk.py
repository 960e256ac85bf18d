"""Random-k sparsification: weights drawn by a seed that both ends have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le

from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import spanned
from fedcomp.codecs.stochastic import rounded
from fedcomp.codecs.topk import kept_count
from fedcomp.coding import quantise
from fedcomp.tensors import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context, Mode, Symbols
    from fedcomp.tensors import Array, Tensors, TensorSpec


@dataclass(frozen=True)
class RandK(LevelCodec):
    """Send k = ⌈p·n⌉ weights of each tensor, drawn anew in every packet, and no positions.

    Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory", NeurIPS 2018, arXiv:1809.07599.  Both
    ends draw the same positions, so that only values travel; E‖w − C(w)‖² = (1 − k/n)·‖w‖².

    Parameters
    ----------
    density
        p.
    unbiased
        Send n/k times the values, rounded stochastically, so that the mean of what arrives is what
        was sent; not with feedback, which needs a C(w) that is never farther from w than 0 is.
    bits
        Width of a value; its step spans the largest one drawn.
    coder
        How the values are written, one after the other.
    """

    name: ClassVar[str] = "randk"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)

    density: Annotated[float, Gt(0), Le(1)] = 0.01
    unbiased: bool = False
    bits: Annotated[int, Ge(2), Le(24)] = 8
    coder: Coder = "cabac"

    def coding(self, context: Context) -> Coding:  # noqa: ARG002
        """Return how levels are written."""
        return Coding(self.coder)

    def weight_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """Return how many values travel."""
        return (kept_count(self.density, spec.size),)

    def levels(self, name: str, values: Array, context: Context) -> Levels:
        """Return the levels of what was drawn, in the order of their positions."""
        generator = context.generator(name)
        count = kept_count(self.density, values.size)
        chosen = values.reshape(-1)[positions(values.size, count, generator)]
        if self.unbiased:
            chosen = chosen * np.float64(values.size / count)
        clipped, step = spanned(chosen, self.bits, 1.0)
        if not step:
            return Levels.zeros(values.shape)
        if self.unbiased:
            levels = rounded(clipped / np.float64(step), generator)
        else:
            levels = quantise.uniform(clipped, step)
        return Levels.of(levels, step) if levels.any() else Levels.zeros(values.shape)

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Return level · step where weights were drawn, 0 elsewhere; integers as they were sent."""
        out = super().reconstruct(symbols, context)
        for name, symbol in symbols.items():
            spec = context.manifest.by_name[name]
            if spec.kind is Kind.WEIGHT and isinstance(symbol, Levels) and symbol.step:
                flat = np.zeros(spec.size, out[name].dtype)
                drawn = positions(spec.size, len(symbol.levels), context.generator(name))
                flat[drawn] = out[name]
                out[name] = flat.reshape(spec.shape)
        return out


def positions(size: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return `count` of `size` positions, each subset as likely as any other, in order.

    Examples
    --------
    >>> positions(100, 4, np.random.default_rng(1)).tolist()
    [45, 50, 74, 95]
    """
    return np.sort(generator.choice(size, count, replace=False, shuffle=False))
