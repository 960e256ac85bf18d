"""Random-k sparsification: weights drawn by a seed that both ends have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from fedcomp.codecs.arrays import finite
from fedcomp.codecs.base import About
from fedcomp.codecs.coders import Coder, Coding, check_alphabet
from fedcomp.codecs.draws import drawn, positions
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.steps import named, spanned
from fedcomp.codecs.stochastic import rounded
from fedcomp.codecs.topk import kept_count, spanned_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context, Mode, Symbols
    from fedcomp.coding.reader import Reader
    from fedcomp.tensors import Array, Tensors

MODEL = "*"
"""The name whose generator draws from all weights of a model together."""


@dataclass(frozen=True)
class RandK(LevelCodec):
    """Send k = ⌈p·n⌉ of n weights, drawn anew in every packet, and no positions.

    Stich, Cordonnier, Jaggi, "Sparsified SGD with Memory", NeurIPS 2018, arXiv:1809.07599.  Both
    ends draw the same positions, so that only values travel; E‖w − C(w)‖² = (1 − k/n)·‖w‖².

    Parameters
    ----------
    density
        p.
    scope
        Draw k weights of each `tensor`, or of all weights of the `model` together, whichever of
        them are sent.
    unbiased
        Send n/k times the values, rounded stochastically, so that the mean of what arrives is what
        was sent; not with feedback, which needs a C(w) that is never farther from w than 0 is.
    bits
        Width of a value; its step spans the largest one drawn of the tensor.
    coder
        How the values are written, one after the other.
    """

    name: ClassVar[str] = "randk"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Stich et al., NeurIPS 2018, arXiv:1809.07599",
        formula="w for k = ⌈p·n⌉ weights drawn by a common seed, else 0; n/k·w where unbiased",
        bias="biased; unbiased=true: unbiased",
        cost="O(n)",
    )

    density: Annotated[float, Gt(0), Le(1)] = 0.01
    scope: Literal["tensor", "model"] = "tensor"
    unbiased: bool = False
    bits: Annotated[int, Ge(2), Le(24)] = 8
    coder: Coder = "cabac"

    def __post_init__(self) -> None:
        check_alphabet(self.coder, self.bits)

    @property
    def contracts(self) -> bool:
        """Whether values travel as they are: E‖w − C(w)‖² = (n/k − 1)·‖w‖² where unbiased."""
        return not self.unbiased

    def counts(self, context: Context) -> dict[str, int]:
        """Return how many weights of each tensor are drawn."""
        sizes = _sizes(context)
        if self.scope == "tensor":
            return {name: kept_count(self.density, size) for name, size in sizes.items()}
        total = sum(sizes.values())
        mask = drawn(total, kept_count(self.density, total), context.generator(MODEL))
        ends = np.cumsum(list(sizes.values()), dtype=np.int64)
        return {
            name: int(np.count_nonzero(mask[end - size : end]))
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }

    def coding(self, context: Context) -> Coding:
        """Return how levels are written, and how many there are."""
        return DrawnCoding(self.coder, counts=partial(self.counts, context))

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Quantise what is drawn, in the order of positions; a draw of zeros is a tensor of 0."""
        context.manifest.check(tensors)
        counts = self.counts(context)
        out: Symbols = {}
        for name, value in tensors.items():
            if name not in counts:
                out[name] = self.quantised(name, value, context)
                continue
            at = positions(value.size, counts[name], context.generator(name))
            chosen = finite(name, value).reshape(-1)[at]
            with named(name):
                found = self.levels(name, chosen, context) if chosen.any() else None
            out[name] = found if found and found.step else Levels.zeros(value.shape)
        return out

    def levels(self, name: str, values: Array, context: Context) -> Levels:
        """Return the levels of what was drawn."""
        if not self.unbiased:
            return spanned_levels(values, self.bits)
        raised, step = spanned(values * self._factor(name, context), self.bits, 1.0)
        if not step:
            return Levels.zeros(values.shape)
        rounding = context.generator(f"{name} rounding")  # the draw has used the tensor's own
        return Levels.of(rounded(raised / np.float64(step), rounding), step)

    def _factor(self, name: str, context: Context) -> np.float64:
        """Return n/k."""
        sizes = _sizes(context)
        n = sizes[name] if self.scope == "tensor" else sum(sizes.values())
        return np.float64(n / kept_count(self.density, n))

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Return level · step where weights were drawn, 0 elsewhere; integers as they were sent."""
        out = super().reconstruct(symbols, context)
        for name, symbol in symbols.items():
            spec = context.manifest.by_name[name]
            if isinstance(symbol, Levels) and spec.is_weight and symbol.step:
                flat = np.zeros(spec.size, out[name].dtype)
                at = positions(spec.size, len(symbol.levels), context.generator(name))
                flat[at] = out[name]
                out[name] = flat.reshape(spec.shape)
        return out


@dataclass(frozen=True)
class DrawnCoding(Coding):
    """Writes what was drawn of each tensor, so that its shape is the number of them.

    Parameters
    ----------
    counts
        Draws those numbers, by tensor name.
    """

    counts: Callable[[], Mapping[str, int]] = dict

    def sections(
        self, reader: Reader, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Callable[[], NDArray[np.int32]]]:
        """Find the sections of tensors that have values."""
        counts = self.counts()
        return super().sections(reader, {name: (counts[name],) for name in shapes})


def _sizes(context: Context) -> dict[str, int]:
    """Return how many weights each tensor of weights has, whether it is sent or not."""
    return {s.name: s.size for s in context.manifest.weights if s.is_float}
