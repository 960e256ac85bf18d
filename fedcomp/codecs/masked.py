"""The weights that are not zero, by any codec; where they are is told when it changes.

    S   where the receiver's model is not zero; everywhere, where a packet stands alone
    S'  where the model is not zero

Payload: the values' payload and its length; which tensors have S' ≠ S; for each of these a byte of
flags, and S ⊕ S' in a section or two (`masks`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from fedcomp.codecs.arrays import read_presence, write_presence
from fedcomp.codecs.base import About, Codec, Context, LazyCodec, Mode, Symbols
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.lazy import LazySymbols
from fedcomp.codecs.masks import told, told_shapes, understood
from fedcomp.codecs.randk import RandK
from fedcomp.codecs.vectors import is_masked, kept_values, vector_context, vector_manifest
from fedcomp.coding.reader import Reader, varint
from fedcomp.errors import BitstreamError
from fedcomp.tensors import difference_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from fedcomp.codecs.masks import Mask
    from fedcomp.tensors import Array, Manifest, Tensors, TensorSpec


class Masked(NamedTuple):
    """Where a weight tensor is not zero, and what the inner codec made of it there."""

    kept: Mask
    values: Any


@dataclass(frozen=True)
class MaskedCodec(LazyCodec):
    """Sparse models: another codec for the values, and masks that cost nothing while they stay.

    In mode delta a weight that becomes zero is told by its mask, and becomes zero exactly, whatever
    the other codec loses.  In mode absolute one that the other codec makes zero becomes the least
    normal number, so that it stays in the mask.  That codec sees a vector for each weight tensor,
    and no earlier packets.

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
        if inner.mode not in inner.modes:
            possible = " or ".join(inner.modes)
            msg = f"mode={self.mode}: its values={inner.name} works in mode {possible} only"
            raise ValueError(msg)
        if inner.mode != self.mode:
            msg = f"mode={self.mode}, and its values={inner.name} has another one, {inner.mode}"
            raise ValueError(msg)
        if isinstance(inner, RandK) and inner.scope == "model":
            msg = "values=randk: scope=model counts weights before masks are known; use tensor"
            raise ValueError(msg)
        if inner.name == "subspace":
            msg = "values=subspace: its coordinates hang on the sizes of all tensors, before masks"
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
        return [f"values.{problem}" for problem in self.values.misfits(vector_manifest(manifest))]

    def over(self, rounds: int) -> Codec:
        """Return the codec with values whose schedule ends with the run."""
        return replace(self, values=self.values.over(rounds))

    def anchor(self, model: Tensors, manifest: Manifest) -> bytes:
        """Return a hash of a model's masks, and the name of what the other codec takes of it."""
        digest = hashlib.sha256()
        for spec in manifest.specs:
            if is_masked(spec):
                digest.update(np.packbits(model[spec.name] != 0).tobytes())
        return digest.digest() + self.values.anchor(model, manifest)

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Return the masks of weights with the symbols of what they keep."""
        masks = self._masks(tensors, context)
        inner = vector_context(context, masks)
        return _with(masks, self.values.quantise(kept_values(tensors, masks), inner))

    def quantise_weighted(self, tensors: Tensors, importance: Tensors, context: Context) -> Symbols:
        """Do the same with regard to the importance of each weight."""
        masks = self._masks(tensors, context)
        values, inner = kept_values(tensors, masks), vector_context(context, masks)
        weights = kept_values({n: v for n, v in importance.items() if n in tensors}, masks)
        return _with(masks, self.values.quantise_weighted(values, weights, inner))

    def _masks(self, tensors: Tensors, context: Context) -> dict[str, Mask]:
        context.manifest.check(tensors)
        specs = context.manifest.by_name
        return {n: self._kept(n, v, context) for n, v in tensors.items() if is_masked(specs[n])}

    def _kept(self, name: str, values: Array, context: Context) -> Mask:
        """Return where the model will not be zero, S'."""
        reference = (context.reference or {}).get(name)
        if self.mode == "absolute" or reference is None:
            return np.asarray(values != 0)
        held = np.asarray(reference, difference_dtype(reference.dtype))
        return np.asarray(((held != 0) | (values != 0)) & (values != -held))

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the values, then the masks that the receiver cannot know."""
        masks = {n: s.kept for n, s in symbols.items() if isinstance(s, Masked)}
        values = {n: s.values if isinstance(s, Masked) else s for n, s in symbols.items()}
        payload = self.values.pack(values, vector_context(context, masks))
        flags: dict[str, int] = {}
        sections: dict[str, NDArray[np.int32]] = {}
        for spec in context.manifest.specs:
            if spec.name in masks and (masks[spec.name] != (held := _held(spec, context))).any():
                flags[spec.name], parts = told(held, masks[spec.name])
                sections |= {f"{spec.name} {part}": bits for part, bits in parts.items()}
        return b"".join(
            (
                varint(len(payload)),
                payload,
                write_presence(flags, context.manifest),
                bytes(flags.values()),
                Coding(self.coder).write(sections),
            )
        )

    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote; masks are decoded to know how many values there are."""
        reader = Reader(data)
        payload = reader.take(reader.varint())
        specs = context.manifest.by_name
        masks = self._read_masks(reader, context)
        reader.end()

        def mask(name: str) -> Mask:
            spec = specs[name]
            if name not in masks:
                return _held(spec, context)
            bits = np.unpackbits(masks[name], count=spec.size)
            return np.asarray(bits.view(bool).reshape(spec.shape))

        all_masks = {name: mask(name) for name, spec in specs.items() if is_masked(spec)}
        found = self.values.lazy(payload, vector_context(context, all_masks))
        missing = [name for name in masks if name not in found]
        if missing:
            msg = f"tensor {missing[0]!r} has a mask and no values"
            raise BitstreamError(msg)

        def symbol(name: str) -> Any:
            return Masked(mask(name), found[name]) if is_masked(specs[name]) else found[name]

        makers = {name: partial(symbol, name) for name in found}
        return LazySymbols(makers, {name: specs[name].size for name in found})

    def _read_masks(self, reader: Reader, context: Context) -> dict[str, NDArray[np.uint8]]:
        """Return the masks that are not the receiver's, a bit a weight."""
        specs = context.manifest.by_name
        changed = read_presence(reader, context.manifest)
        strange = [name for name in changed if not is_masked(specs[name])]
        if strange:
            msg = f"tensor {strange[0]!r} has no mask, and one is announced"
            raise BitstreamError(msg)
        flags = dict(zip(changed, bytes(reader.take(len(changed))), strict=True))
        shapes = {n: told_shapes(n, _held(specs[n], context), flags[n]) for n in changed}
        flat = {f"{n} {part}": shape for n in changed for part, shape in shapes[n].items()}
        sections = Coding(self.coder).sections(reader, flat)
        masks = {}
        for name in changed:
            parts = {part: sections[f"{name} {part}"]() for part in shapes[name]}
            held = _held(specs[name], context)
            masks[name] = np.packbits(understood(name, held, flags[name], parts))
        return masks

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Put the values where the masks keep them; elsewhere the model becomes zero."""
        masks = {n: s.kept for n, s in symbols.items() if isinstance(s, Masked)}
        values = {n: s.values if isinstance(s, Masked) else s for n, s in symbols.items()}
        out = self.values.reconstruct(values, vector_context(context, masks))
        for name, mask in masks.items():
            whole = np.zeros(mask.shape, out[name].dtype)
            if self.mode == "absolute":
                tiny = np.finfo(context.manifest.by_name[name].dtype).tiny
                out[name] = np.where(out[name] == 0, out[name].dtype.type(tiny), out[name])
            elif name in (context.reference or {}):
                np.negative(context.reference[name], out=whole, where=~mask)  # type: ignore[index]
            whole[mask] = out[name]
            out[name] = whole
        return {name: out[name] for name in symbols}


def _with(masks: Mapping[str, Mask], found: Symbols) -> Symbols:
    return {n: Masked(masks[n], s) if n in masks else s for n, s in found.items()}


def _held(spec: TensorSpec, context: Context) -> Mask:
    """Return where the receiver's model is not zero: S."""
    reference = (context.reference or {}).get(spec.name)
    return np.ones(spec.shape, bool) if reference is None else np.asarray(reference != 0)
