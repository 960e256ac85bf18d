"""Several codecs in one packet: each tensor goes to the first whose pattern it meets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from fedcomp.codecs.base import About, Codec, Context, LazyCodec, Mode, Symbols
from fedcomp.codecs.lazy import LazySymbols
from fedcomp.codecs.stc import Stc
from fedcomp.codecs.uniform import Uniform
from fedcomp.coding.reader import Reader, varint
from fedcomp.errors import BitstreamError
from fedcomp.tensors import Kind, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fedcomp.tensors import Tensors, TensorSpec

LAYERS = {"conv": (3, 4, 5), "dense": (2,)}
"""Numbers of axes of a weight by the sort of its layer."""


@dataclass(frozen=True)
class Part:
    """A codec and the tensors that it codes.

    Parameters
    ----------
    tensors
        `conv` or `dense`: the weights of such layers; a kind of tensor: `weight`, `bias`, `norm`,
        `scale`, `buffer`, `counter`; anything else is a regular expression that is searched in the
        tensor's name.
    codec
        Any codec and its settings.
    """

    tensors: str
    codec: Codec

    def __post_init__(self) -> None:
        try:
            re.compile(self.tensors)
        except re.error as error:
            msg = f"tensors={self.tensors} is no regular expression: {error}"
            raise ValueError(msg) from error

    def takes(self, spec: TensorSpec) -> bool:
        """Tell whether a tensor is one of this part."""
        if self.tensors in LAYERS:
            return spec.is_weight and len(spec.shape) in LAYERS[self.tensors]
        if self.tensors in list(Kind):
            return spec.kind == self.tensors
        return re.search(self.tensors, spec.name) is not None


@dataclass(frozen=True)
class Mixed(LazyCodec):
    """The payloads of several codecs one after the other, each with its length before it.

    Parameters
    ----------
    parts
        Codecs for some tensors, tried in order.
    otherwise
        The codec of all other tensors.
    """

    name: ClassVar[str] = "mixed"
    modes: ClassVar[tuple[Mode, ...]] = ("delta", "absolute")
    about: ClassVar[About] = About(
        paper="none; any codec for any tensor",
        formula="that of each tensor's codec",
        bias="that of its codecs",
        cost="that of its codecs",
    )

    mode: Mode = "delta"
    parts: tuple[Part, ...] = (Part("dense", Uniform(bits=8)), Part("conv", Stc()))
    otherwise: Codec = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        for codec in self.codecs:
            if codec.mode not in codec.modes:
                possible = " or ".join(codec.modes)
                msg = f"mode={codec.mode}: {codec.name} in it works in mode {possible} only"
                raise ValueError(msg)
            if codec.mode != self.mode:
                msg = f"mode={self.mode}, and {codec.name} in it has another one, {codec.mode}"
                raise ValueError(msg)
        waits = {codec.patience for codec in self.codecs if codec.patience is not None}
        if len(waits) > 1:
            msg = f"adaptive schedules of one codec need the same every, these have {sorted(waits)}"
            raise ValueError(msg)

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """All codecs; the last takes what is left."""
        return *(part.codec for part in self.parts), self.otherwise

    @property
    def contracts(self) -> bool:
        """Whether all codecs do."""
        return all(codec.contracts for codec in self.codecs)

    @property
    def settles(self) -> bool:
        """Whether all codecs do."""
        return all(codec.settles for codec in self.codecs)

    @property
    def keeps_zeros(self) -> bool:
        """Whether all codecs do."""
        return all(codec.keeps_zeros for codec in self.codecs)

    @property
    def uses_previous(self) -> bool:
        """Whether some codec does."""
        return any(codec.uses_previous for codec in self.codecs)

    @property
    def needs_previous(self) -> bool:
        """Whether the packets of some codec do."""
        return any(codec.needs_previous for codec in self.codecs)

    @property
    def uses_importance(self) -> bool:
        """Whether some codec does."""
        return any(codec.uses_importance for codec in self.codecs)

    @property
    def patience(self) -> int | None:
        """The rounds to wait of a codec on an adaptive schedule."""
        return next((c.patience for c in self.codecs if c.patience is not None), None)

    def misfits(self, manifest: Manifest) -> list[str]:
        """Name the parts that take no tensor of a model."""
        taken = {self._owner(spec) for spec in manifest.specs}
        kinds = ", ".join([*LAYERS, *sorted({str(spec.kind) for spec in manifest.specs})])
        return [
            f"parts.{at}.tensors={part.tensors}: takes no tensor of the model that no earlier part"
            f" takes; choose of {kinds}, or a part of a name such as {manifest.specs[0].name}"
            for at, part in enumerate(self.parts)
            if at not in taken
        ]

    def anchor(self, model: Tensors, manifest: Manifest) -> bytes:
        """Return what names that which any of the codecs takes."""
        names = []
        for at, codec in enumerate(self.codecs):
            mine = tuple(spec for spec in manifest.specs if self._owner(spec) == at)
            names.append(codec.anchor({s.name: model[s.name] for s in mine}, Manifest(mine)))
        return b"".join(names)

    def over(self, rounds: int) -> Codec:
        """Return the codec with schedules that end with the run."""
        parts = tuple(replace(part, codec=part.codec.over(rounds)) for part in self.parts)
        return replace(self, parts=parts, otherwise=self.otherwise.over(rounds))

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Turn each tensor into symbols of its codec."""
        context.manifest.check(tensors)
        found: Symbols = {}
        for codec, names in self._shares(tensors, context):
            found |= codec.quantise({name: tensors[name] for name in names}, context)
        return {name: found[name] for name in tensors}

    def quantise_weighted(self, tensors: Tensors, importance: Tensors, context: Context) -> Symbols:
        """Turn each tensor into symbols, with regard to importance where its codec can."""
        context.manifest.check(tensors)
        found: Symbols = {}
        for codec, names in self._shares(tensors, context):
            mine = {name: tensors[name] for name in names}
            if codec.uses_importance:
                weights = {name: importance[name] for name in names if name in importance}
                found |= codec.quantise_weighted(mine, weights, context)
            else:
                found |= codec.quantise(mine, context)
        return {name: found[name] for name in tensors}

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the payload of each codec."""
        parts = []
        for codec, names in self._shares(symbols, context):
            data = codec.pack({name: symbols[name] for name in names}, context)
            parts += [varint(len(data)), data]
        return b"".join(parts)

    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote."""
        reader = Reader(data)
        found: dict[str, Mapping[str, Any]] = {}
        for at, codec in enumerate(self.codecs):
            symbols = codec.lazy(reader.take(reader.varint()), context)
            for name in symbols:
                if self._owner(context.manifest.by_name[name]) != at:
                    msg = f"tensor {name!r} comes from {codec.name}, which is not its codec"
                    raise BitstreamError(msg)
                found[name] = symbols
        reader.end()
        names = [spec.name for spec in context.manifest.specs if spec.name in found]
        makers = {name: partial(found[name].__getitem__, name) for name in names}
        return LazySymbols(makers, {n: context.manifest.by_name[n].size for n in names})

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Turn the symbols of each codec into tensors."""
        found: Tensors = {}
        for codec, names in self._shares(symbols, context):
            found |= codec.reconstruct({name: symbols[name] for name in names}, context)
        return {name: found[name] for name in symbols}

    def _shares(self, names: Iterable[str], context: Context) -> list[tuple[Codec, list[str]]]:
        """Return each codec with those of the tensors that it codes."""
        shares: list[list[str]] = [[] for _ in self.codecs]
        for name in names:
            shares[self._owner(context.manifest.by_name[name])].append(name)
        return list(zip(self.codecs, shares, strict=True))

    def _owner(self, spec: TensorSpec) -> int:
        """Return which codec a tensor has."""
        mine = (at for at, part in enumerate(self.parts) if part.takes(spec))
        return next(mine, len(self.parts))
