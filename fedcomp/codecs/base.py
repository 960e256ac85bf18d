"""The contract of a codec.

    quantise(tensors, context)    -> symbols     lossy; any subset of the model's tensors
    pack(symbols, context)        -> bytes       lossless; any union of quantised subsets
    unpack(bytes, context)        -> symbols     unpack(pack(s, c), c) == s, always
    reconstruct(symbols, context) -> tensors

    encode = pack ∘ quantise      decode = reconstruct ∘ unpack

A codec is a frozen dataclass: its fields are its settings, and two codecs with equal name and
settings understand each other's bytes.  It keeps no state.  Randomness comes from
`context.generator(tensor)` alone.  `reconstruct` gives the same bits on every CPU, so it uses
+ − × ÷ sqrt and tables in a fixed order, and no BLAS.  Bytes that `pack` has not written end in
`BitstreamError`, never in a wrong tensor or in more memory than the manifest allows.

Signal flow, with the two halves apart because some methods train on what was already lost:

    tensors ─ quantise ─► symbols ─ pack ─► bytes ─ unpack ─► symbols ─ reconstruct ─► tensors'
                             └────────── reconstruct ─► the sender's view of tensors'
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias

from fedcomp import seeds
from fedcomp.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from fedcomp.codecs.lazy import LazySymbols
    from fedcomp.tensors import Manifest, Tensors

Direction: TypeAlias = Literal["uplink", "downlink"]
Mode: TypeAlias = Literal["delta", "absolute"]
Symbols: TypeAlias = dict[str, Any]
"""By tensor name what the lossy step made of it; the type of a value is the codec's own."""

CODEC_ID_BYTES = 4


@dataclass(frozen=True)
class Context:
    """What both ends know when a packet is written, and therefore need not send.

    Attributes
    ----------
    reference
        The model that the receiver holds.
    previous
        The symbols of the last acknowledged packet of the same link and direction.
    plateaus
        How often the training loss has stopped falling, as the sender of an adaptive schedule was
        told; its packets say what came of it.
    """

    manifest: Manifest
    seed: int
    round: int
    direction: Direction
    client: str = ""
    reference: Tensors | None = field(default=None, repr=False)
    previous: Mapping[str, Any] | None = field(default=None, repr=False)
    plateaus: int = 0

    def generator(self, tensor: str) -> np.random.Generator:
        """Return the random generator that both ends use for this tensor."""
        return seeds.generator(self.seed, self.round, self.direction, self.client, tensor)


class About(NamedTuple):
    """A line of the table in this package's README.

    Attributes
    ----------
    bias
        What the mean of many decoded packets is: `exact` (each one is), `unbiased`, `biased`, and
        where a setting decides, which.
    cost
        Work of the encoder for a tensor of n weights.
    """

    paper: str
    formula: str
    bias: str
    cost: str


@dataclass(frozen=True)
class Codec(ABC):
    """A lossy step and a lossless one, under the name of its paper.

    Parameters
    ----------
    mode
        What is given to the codec: the difference to what the receiver holds (`delta`), or the
        model itself (`absolute`).
    """

    name: ClassVar[str]
    modes: ClassVar[tuple[Mode, ...]]
    about: ClassVar[About]

    mode: Mode

    @property
    def contracts(self) -> bool:
        """Whether what is decoded is never farther from w than 0 is, on average.

        With feedback that is sent in the end what is left out at first; without this property
        feedback may grow without bound, so that `link.feedback=auto` leaves it off.
        """
        return True

    @property
    def settles(self) -> bool:
        """Whether what one packet leaves out comes to an end in the next ones, for usual weights.

        A downlink of differences needs that: T − P is all that earlier packets have left out.
        """
        return self.contracts

    @property
    def keeps_zeros(self) -> bool:
        """Whether a weight that is exactly zero arrives as zero, so that sparse models stay so."""
        return False

    def anchor(self, model: Tensors, manifest: Manifest) -> bytes:  # noqa: ARG002
        """Name all that a packet of mode absolute takes of the model that its receiver holds.

        Two models with the same name are the same to it, so that the packet made for the holder of
        one of them serves those of the other.  Without a name every packet stands alone.
        """
        return b""

    def misfits(self, manifest: Manifest) -> list[str]:  # noqa: ARG002
        """Say which settings mean nothing for a model."""
        return []

    def over(self, rounds: int) -> Codec:  # noqa: ARG002
        """Return this codec for a run of so many rounds; a schedule looks at them."""
        return self

    def at(self, context: Context) -> Codec:  # noqa: ARG002
        """Return the codec with the settings of one packet; a schedule looks at its round."""
        return self

    @property
    def uses_previous(self) -> bool:
        """Whether `quantise` looks at `Context.previous`; such a codec packs without it, too."""
        return False

    @property
    def needs_previous(self) -> bool:
        """Whether packets refer to `Context.previous`, so that the receiver has to have it, too."""
        return self.uses_previous

    @property
    def patience(self) -> int | None:
        """How many rounds without a lower loss count as a plateau, if the codec wants to know."""
        return None

    @property
    def uses_importance(self) -> bool:
        """Whether `quantise_weighted` works."""
        return False

    @abstractmethod
    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Turn tensors into symbols; what is lost is lost here."""

    def quantise_weighted(
        self,
        tensors: Tensors,  # noqa: ARG002
        importance: Tensors,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> Symbols:
        """Turn tensors into symbols, moving least what is important; few codecs can.

        Parameters
        ----------
        importance
            How much the squared error of each weight counts; 1 is usual.
        """
        msg = f"codec {self.name} does not look at the importance of weights; use deepcabac or nnc"
        raise CodecError(msg)

    @abstractmethod
    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write symbols as bytes."""

    @abstractmethod
    def unpack(self, data: bytes | memoryview, context: Context) -> Symbols:
        """Read the symbols that `pack` wrote."""

    def lazy(self, data: bytes | memoryview, context: Context) -> Mapping[str, Any]:
        """Return what `unpack` returns, better if tensors are decoded when they are looked up.

        The server holds one for each reply of a round, so that all symbols decoded at once take
        a model's memory for each client.
        """
        return self.unpack(data, context)

    @abstractmethod
    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Turn symbols, all or some, into tensors, the same to the bit on every machine."""

    def encode(self, tensors: Tensors, context: Context) -> bytes:
        """Return `pack(quantise(tensors))`."""
        return self.pack(self.quantise(tensors, context), context)

    def decode(self, data: bytes | memoryview, context: Context) -> Tensors:
        """Return `reconstruct(unpack(data))`."""
        return self.reconstruct(self.unpack(data, context), context)

    @cached_property
    def id(self) -> bytes:
        """A hash of name and settings; equal on both ends iff the bytes mean the same."""
        text = json.dumps(_named(self), sort_keys=True)
        return hashlib.sha256(text.encode()).digest()[:CODEC_ID_BYTES]


@dataclass(frozen=True)
class LazyCodec(Codec):
    """A codec that finds all tensors in its bytes before it decodes one."""

    def unpack(self, data: bytes | memoryview, context: Context) -> Symbols:
        """Read what `pack` wrote."""
        return self.lazy(data, context).all()

    @abstractmethod
    def lazy(self, data: bytes | memoryview, context: Context) -> LazySymbols:
        """Find what `pack` wrote."""


def _named(value: Any) -> Any:
    """Return settings as values for JSON, those of a codec within another one with its name."""
    if is_dataclass(value):
        found = {f.name: _named(getattr(value, f.name)) for f in fields(value)}
        return [value.name, found] if isinstance(value, Codec) else found
    return [_named(part) for part in value] if isinstance(value, tuple) else value
