"""The weights that are not zero, by any codec; where they are is told when it changes.

    S   where the receiver's model is not zero; everywhere, where a packet stands alone
    S'  where the model is not zero

Payload: the values' payload and its length; which tensors have S' ≠ S; for each of these a byte and
a section of bits, S ⊕ S' within S or anywhere, inverted where most of them are ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from fedcomp.codecs.arrays import read_presence, write_presence
from fedcomp.codecs.base import About, Codec, Context, Mode, Symbols
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.lazy import LazySymbols
from fedcomp.codecs.levels import is_float, is_hard
from fedcomp.codecs.masks import told, told_shape, understood
from fedcomp.coding.reader import Reader, varint
from fedcomp.errors import BitstreamError
from fedcomp.tensors import Manifest, difference_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fedcomp.codecs.masks import Mask
    from fedcomp.tensors import Array, Tensors, TensorSpec


class Masked(NamedTuple):
    """Where a weight tensor is not zero, and what the inner codec made of it there."""

    kept: Mask
    values: Any


@dataclass(frozen=True)
class MaskedCodec(Codec):
    """Sparse models: another codec for the values, and masks that cost nothing while they stay.

    In mode delta a weight that becomes zero is told by its mask, and becomes zero exactly, whatever
    the other codec loses.  That codec sees a vector for each weight tensor, and no earlier packets.

    Parameters
    ----------
    values
        The codec of what is not zero, and of all tensors that are no weights.
    coder
        How masks are written.
    """

    name: ClassVar[str] = "masked"
    modes: ClassVar[tuple[Mode, ...]] = ("delta", "absolute")
    about: ClassVar[About] = About(
        paper="Long et al., ICDM 2023, arXiv:2309.06805, who count no masks",
        formula="w where w ≠ 0, by another codec; S ⊕ S' where the mask changes",
        bias="that of its codec",
        cost="O(n), and that of its codec",
    )

    mode: Mode = "delta"
    values: Codec = field(default_factory=Cast)
    coder: Coder = "cabac"

    def __post_init__(self) -> None:
        inner = self.values
        if inner.mode != self.mode or inner.mode not in inner.modes:
            possible = " or ".join(inner.modes)
            msg = f"mode={self.mode}: its values={inner.name} works in mode {possible} only"
            raise ValueError(msg)
        if inner.uses_previous:
            msg = f"values={inner.name} looks at earlier packets, whose weights may be other ones"
            raise ValueError(msg)

    @property
    def contracts(self) -> bool:
        """Whether the codec of the values does."""
        return self.values.contracts

    @property
    def settles(self) -> bool:
        """Whether the codec of the values does."""
        return self.values.settles

    @property
    def keeps_zeros(self) -> bool:
        """Always: they are no values."""
        return True

    @property
    def patience(self) -> int | None:
        """The rounds to wait of values on an adaptive schedule."""
        return self.values.patience

    @property
    def uses_importance(self) -> bool:
        """Whether the codec of the values does."""
        return self.values.uses_importance

    def misfits(self, manifest: Manifest) -> list[str]:
        """Name what the codec of the values cannot do with a model."""
        return [f"values.{problem}" for problem in self.values.misfits(manifest)]

    def over(self, rounds: int) -> Codec:
        """Return the codec with values whose schedule ends with the run."""
        return replace(self, values=self.values.over(rounds))

    def anchor(self, model: Tensors, manifest: Manifest) -> bytes:
        """Return a hash of the masks of a model: packets refer to nothing else of it."""
        digest = hashlib.sha256()
        for spec in manifest.specs:
            if _is_masked(spec):
                digest.update(np.packbits(model[spec.name] != 0).tobytes())
        return digest.digest()

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Return the masks of weights with the symbols of what they keep."""
        return self._quantised(tensors, context, self.values.quantise)

    def quantise_weighted(self, tensors: Tensors, importance: Tensors, context: Context) -> Symbols:
        """Do the same with regard to the importance of each weight."""

        def quantise(values: Tensors, inner: Context) -> Symbols:
            weights = {
                name: importance[name][kept(self, tensors[name], name, context)]
                if _is_masked(context.manifest.by_name[name])
                else importance[name]
                for name in values
                if name in importance
            }
            return self.values.quantise_weighted(values, weights, inner)

        return self._quantised(tensors, context, quantise)

    def _quantised(
        self, tensors: Tensors, context: Context, quantise: Callable[[Tensors, Context], Symbols]
    ) -> Symbols:
        context.manifest.check(tensors)
        specs = context.manifest.by_name
        masks = {
            name: kept(self, value, name, context)
            for name, value in tensors.items()
            if _is_masked(specs[name])
        }
        values = {n: v[masks[n]] if n in masks else v for n, v in tensors.items()}
        found = quantise(values, _inner(context, {n: _count(m) for n, m in masks.items()}))
        return {n: Masked(masks[n], found[n]) if n in masks else found[n] for n in tensors}

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the values, then the masks that the receiver cannot know."""
        masks = {n: s.kept for n, s in symbols.items() if isinstance(s, Masked)}
        values = {n: s.values if isinstance(s, Masked) else s for n, s in symbols.items()}
        inner = _inner(context, {n: _count(mask) for n, mask in masks.items()})
        payload = self.values.pack(values, inner)
        changed = {}
        for name, mask in masks.items():
            held = _held(context.manifest.by_name[name], context)
            if (held != mask).any():
                changed[name] = told(held, mask)
        ordered = [spec.name for spec in context.manifest.specs if spec.name in changed]
        return b"".join(
            (
                varint(len(payload)),
                payload,
                write_presence(changed, context.manifest),
                bytes(changed[name][0] for name in ordered),
                Coding(self.coder).write({name: changed[name][1] for name in ordered}),
            )
        )

    def unpack(self, data: bytes | memoryview, context: Context) -> Symbols:
        """Read what `pack` wrote."""
        return self.lazy(data, context).all()

    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote; masks are decoded to know how many values there are."""
        reader = Reader(data)
        payload = reader.take(reader.varint())
        specs = context.manifest.by_name
        changed = read_presence(reader, context.manifest)
        strange = [name for name in changed if not _is_masked(specs[name])]
        if strange:
            msg = f"tensor {strange[0]!r} has no mask, and one is announced"
            raise BitstreamError(msg)
        flags = dict(zip(changed, bytes(reader.take(len(changed))), strict=True))
        shapes = {n: told_shape(n, _held(specs[n], context), flags[n]) for n in changed}
        sections = Coding(self.coder).sections(reader, shapes)
        reader.end()

        masks = {
            name: np.packbits(understood(name, _held(specs[name], context), flags[name], bits()))
            for name, bits in sections.items()
        }

        def mask(name: str) -> Mask:
            spec = specs[name]
            if name not in masks:
                return _held(spec, context)
            bits = np.unpackbits(masks[name], count=spec.size)
            return np.asarray(bits.view(bool).reshape(spec.shape))

        counts = {name: _count(mask(name)) for name in specs if _is_masked(specs[name])}
        found = self.values.lazy(payload, _inner(context, counts))
        missing = [name for name in changed if name not in found]
        if missing:
            msg = f"tensor {missing[0]!r} has a mask and no values"
            raise BitstreamError(msg)

        def symbol(name: str) -> Any:
            return Masked(mask(name), found[name]) if _is_masked(specs[name]) else found[name]

        makers = {name: partial(symbol, name) for name in found}
        return LazySymbols(makers, {name: specs[name].size for name in found})

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Put the values where the masks keep them; elsewhere the model becomes zero."""
        masks = {n: s.kept for n, s in symbols.items() if isinstance(s, Masked)}
        inner = _inner(context, {name: _count(mask) for name, mask in masks.items()})
        values = {n: s.values if isinstance(s, Masked) else s for n, s in symbols.items()}
        out = self.values.reconstruct(values, inner)
        for name, mask in masks.items():
            whole = np.zeros(mask.shape, out[name].dtype)
            if self.mode == "delta" and name in (context.reference or {}):
                np.negative(context.reference[name], out=whole, where=~mask)  # type: ignore[index]
            whole[mask] = out[name]
            out[name] = whole
        return {name: out[name] for name in symbols}


def kept(codec: Codec, values: Array, name: str, context: Context) -> Mask:
    """Return where the model will not be zero: S'."""
    reference = (context.reference or {}).get(name)
    if codec.mode == "absolute" or reference is None:
        return np.asarray(values != 0)
    held = np.asarray(reference, difference_dtype(reference.dtype))
    return np.asarray(((held != 0) | (values != 0)) & (values != -held))


def _is_masked(spec: TensorSpec) -> bool:
    return is_float(spec) and is_hard(spec)


def _count(mask: Array) -> int:
    return int(np.count_nonzero(mask))


def _held(spec: TensorSpec, context: Context) -> Mask:
    """Return where the receiver's model is not zero: S."""
    reference = (context.reference or {}).get(spec.name)
    return np.ones(spec.shape, bool) if reference is None else np.asarray(reference != 0)


def _inner(context: Context, counts: Mapping[str, int]) -> Context:
    """Return the context of the values: vectors of what is kept, and nothing of other packets."""
    specs = (
        replace(spec, shape=(counts[spec.name],)) if spec.name in counts else spec
        for spec in context.manifest.specs
    )
    return replace(context, manifest=Manifest(tuple(specs)), reference=None, previous=None)
