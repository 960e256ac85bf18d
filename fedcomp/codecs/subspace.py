"""Coordinates in a random subspace of the model, in few bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from fedcomp.codecs.base import About
from fedcomp.codecs.buckets import Buckets, count, draw, paces
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.sign import SignCoding
from fedcomp.coding import quantise
from fedcomp.coding.reader import varint
from fedcomp.errors import CodecError
from fedcomp.tensors import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from fedcomp.codecs.base import Context, Mode, Symbols
    from fedcomp.coding.reader import Reader
    from fedcomp.tensors import Array, Manifest, Tensors, TensorSpec

EIGHTHS = (
    *(1.0, 1.0905077326652577, 1.189207115002721, 1.2968395546510096),
    *(1.4142135623730951, 1.5422108254079407, 1.681792830507429, 1.8340080864093424),
)
"""2^(k / 8); a power that a C library takes may differ in its last bit."""

LOWEST = -26
"""Exponent of the smallest step."""


@dataclass(frozen=True)
class Subspace(LevelCodec):
    """z = Aᵀw in few levels, A·z at the receiver, A having orthonormal columns drawn by the seed.

    Each column adds up weights with random signs (`fedcomp.codecs.buckets`), the same in all
    packets of a run: clients' packets, averages and what feedback keeps lie in one subspace.  What
    of w lies outside never arrives: made for recipe=subspace, which trains inside.  Biases, norms
    and scales are part of it.

    Parameters
    ----------
    dimensions
        Of the subspace of all tensors with more than `whole` weights.  One with twice as many
        holds this one, so that nothing is lost where they double over the rounds.
    whole
        Tensors of at most so many weights have a dimension a weight, on top.
    quantiser
        `sign`: the mean magnitude of the tensor's coordinates and their signs; `uniform`: levels
        `width` root mean squares apart (wider ones might leave out all of a tensor, for ever).
    coder
        How levels are written, those of all tensors together.
    """

    name: ClassVar[str] = "subspace"
    modes: ClassVar[tuple[Mode, ...]] = ("delta",)
    about: ClassVar[About] = About(
        paper="Li et al., ICLR 2018, arXiv:1804.08838; Chen et al., ICML 2015, arXiv:1504.04788",
        formula="A·Q(Aᵀw), A of random signs in disjoint columns; Q by `sign` or `uniform`",
        bias="biased",
        cost="O(n)",
    )

    dimensions: Annotated[int, Ge(1)] = 2000
    whole: Annotated[int, Ge(0)] = 500
    quantiser: Literal["sign", "uniform"] = "sign"
    width: Annotated[float, Gt(0), Le(2)] = 1.5
    coder: Coder = "fixed"

    def columns(self, manifest: Manifest, seed: int) -> dict[str, Buckets]:
        """Return the columns of A by tensor."""
        sizes = _sizes(manifest)
        return {n: draw(sizes[n], pace, seed, n) for n, pace in self._paces(manifest).items()}

    def counts(self, manifest: Manifest) -> dict[str, int]:
        """Return the number of coordinates of each tensor."""
        sizes = _sizes(manifest)
        return {n: count(sizes[n], pace) for n, pace in self._paces(manifest).items()}

    def _paces(self, manifest: Manifest) -> Mapping[str, float]:
        return _paces(manifest, self.dimensions, self.whole)

    def _columns(self, spec: TensorSpec, context: Context) -> Buckets:
        pace = self._paces(context.manifest)[spec.name]
        return draw(spec.size, pace, context.seed, spec.name)

    def treats_hard(self, spec: TensorSpec) -> bool:
        """Tell whether a tensor is part of the subspace: all parameters are."""
        return _is_inside(spec)

    def coding(self, context: Context) -> Coding:
        """Return how levels are written."""
        counts = partial(self.counts, context.manifest)
        if self.quantiser == "sign":
            return JoinedSigns(self.coder, counts=counts)
        return Joined(self.coder, counts=counts)

    def levels(self, name: str, values: Array, context: Context) -> Levels:
        """Return the levels of a tensor's coordinates; 0 where it is outside the subspace."""
        found = self._columns(context.manifest.by_name[name], context).project(values)
        if self.quantiser == "sign":
            step = _rounded(float(np.abs(found).mean()))
            levels = np.where(found < 0, np.int32(-1), np.int32(1))
        else:
            step = _rounded(self.width * float(np.sqrt(np.square(found).mean())))
            levels = quantise.uniform(found, step) if step else np.zeros(len(found), np.int32)
        return Levels.of(levels, step) if step and levels.any() else Levels.zeros(values.shape)

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Return A·z for what lies in the subspace."""
        out = super().reconstruct(symbols, context)
        for name, symbol in symbols.items():
            spec = context.manifest.by_name[name]
            if isinstance(symbol, Levels) and symbol.step and _is_inside(spec):
                out[name] = self._columns(spec, context).spread(out[name]).reshape(spec.shape)
        return out

    def write_steps(
        self, present: list[TensorSpec], steps: NDArray[np.float32], context: Context
    ) -> bytes:
        """Return a byte for each step of the subspace, all of which are powers of 2^(1/8)."""
        inside = [_is_inside(spec) for spec in present]
        wanted = [float(step) for step in steps[np.array(inside, bool)]]
        if other := [step for step in wanted if step not in _CODES]:
            msg = f"steps are powers of 2^(1/8) from 2^{LOWEST} on, {other[0]} is none"
            raise CodecError(msg)
        codes = [_CODES[step] for step in wanted]
        rest = [spec for spec, is_in in zip(present, inside, strict=True) if not is_in]
        more = super().write_steps(rest, steps[~np.array(inside, bool)], context) if rest else b""
        return bytes(codes) + more

    def read_steps(
        self, reader: Reader, present: list[TensorSpec], context: Context
    ) -> list[float]:
        """Return the steps that `write_steps` wrote."""
        inside = [spec.name for spec in present if _is_inside(spec)]
        found = dict(zip(inside, (_STEPS[code] for code in reader.take(len(inside))), strict=True))
        rest = [spec for spec in present if spec.name not in found]
        if rest:
            more = super().read_steps(reader, rest, context)
            found |= dict(zip((spec.name for spec in rest), more, strict=True))
        return [found[spec.name] for spec in present]


@dataclass(frozen=True)
class Joined(Coding):
    """Writes the levels of all tensors one after the other, in one section.

    Parameters
    ----------
    counts
        Returns how many each tensor has.
    """

    counts: Callable[[], Mapping[str, int]] = field(default=dict, repr=False)

    def write(self, named: Mapping[str, NDArray[Any]]) -> bytes:
        """Return the section."""
        if not named:
            return b""
        data = self.encode(np.concatenate([levels.reshape(-1) for levels in named.values()]))
        return varint(len(data)) + data

    def sections(
        self, reader: Reader, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Callable[[], NDArray[np.int32]]]:
        """Find the section; decode it when the first tensor is asked for."""
        if not shapes:
            return {}
        sizes = self.counts()
        ends = np.cumsum([sizes[name] for name in shapes], dtype=np.int64)
        data = reader.take(reader.varint())

        @cache
        def whole() -> NDArray[np.int32]:
            return self.decode(data, (int(ends[-1]),))

        def part(start: int, end: int) -> NDArray[np.int32]:
            return whole()[start:end]

        starts = [0, *ends[:-1]]
        return {n: partial(part, s, e) for n, s, e in zip(shapes, starts, ends, strict=True)}


@dataclass(frozen=True)
class JoinedSigns(Joined, SignCoding):
    """Writes signs so."""


def _is_inside(spec: TensorSpec) -> bool:
    return spec.is_float and spec.kind is not Kind.BUFFER


def _sizes(manifest: Manifest) -> dict[str, int]:
    """Return how many weights each tensor of the subspace has."""
    return {spec.name: spec.size for spec in manifest.specs if _is_inside(spec)}


@lru_cache(maxsize=8)
def _paces(manifest: Manifest, dimensions: int, whole: int) -> Mapping[str, float]:
    return paces(_sizes(manifest), dimensions, whole)


_STEPS = [float(np.float32(EIGHTHS[k % 8] * 2.0 ** (LOWEST + k // 8))) for k in range(256)]
_CODES = {step: code for code, step in enumerate(_STEPS)}


def _rounded(step: float) -> float:
    """Return the largest step that travels and is not larger; 0 below all of them.

    A smaller step than the best one leaves an error that is smaller than what was to be sent; a
    larger one might not.
    """
    code = int(np.searchsorted(_STEPS, step, side="right")) - 1
    return _STEPS[code] if code >= 0 else 0.0
