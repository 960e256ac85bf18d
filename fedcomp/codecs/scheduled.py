"""Any codec with one of its settings on a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from fedcomp.codecs.base import Codec, Context, Symbols
from fedcomp.codecs.lazy import LazySymbols
from fedcomp.coding.reader import Reader, varint
from fedcomp.errors import BitstreamError, CodecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.codecs.schedule import Schedule
    from fedcomp.tensors import Manifest, Tensors


class Doubled(NamedTuple):
    """A symbol, and how often the value on an adaptive schedule had changed when it was made."""

    doublings: int
    symbol: Any


class Unmarked(Mapping[str, Any]):
    """Earlier symbols without marks, each decoded when it is looked up; some never had one."""

    def __init__(self, symbols: Mapping[str, Any]) -> None:
        self._symbols = symbols

    def __getitem__(self, name: str) -> Any:
        found = self._symbols[name]
        return found.symbol if isinstance(found, Doubled) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._symbols)

    def __len__(self) -> int:
        return len(self._symbols)


@dataclass(frozen=True)
class Scheduled(Codec):
    """The codec whose setting has the value of the packet's round.

    Both ends know the round, so that the value costs nothing; of an adaptive schedule, one byte
    before the codec's payload says how often the value has changed.
    """

    codec: Codec
    schedule: Schedule

    def __post_init__(self) -> None:
        for name in ("name", "modes"):
            object.__setattr__(self, name, getattr(self.codec, name))

    @classmethod
    def of(cls, codec: Codec, schedule: Schedule) -> Scheduled:
        """Return a codec on a schedule."""
        return cls(codec.mode, codec, schedule)

    @property
    def contracts(self) -> bool:
        """Whether the codec does at both ends of the schedule."""
        return all(codec.contracts for codec in self._ends())

    @property
    def settles(self) -> bool:
        """Whether the codec does at both ends of the schedule."""
        return all(codec.settles for codec in self._ends())

    @property
    def keeps_zeros(self) -> bool:
        """Whether the codec does at both ends of the schedule."""
        return all(codec.keeps_zeros for codec in self._ends())

    def anchor(self, model: Tensors, manifest: Manifest) -> bytes:
        """Return what names that which the codec takes."""
        return self.codec.anchor(model, manifest)

    @property
    def uses_previous(self) -> bool:
        """Whether the codec does."""
        return self.codec.uses_previous

    @property
    def needs_previous(self) -> bool:
        """Whether the codec's packets do."""
        return self.codec.needs_previous

    @property
    def uses_importance(self) -> bool:
        """Whether the codec does."""
        return self.codec.uses_importance

    @property
    def patience(self) -> int | None:
        """The rounds to wait of an adaptive schedule."""
        return self.schedule.every if self.schedule.adaptive else self.codec.patience

    def misfits(self, manifest: Manifest) -> list[str]:
        """Say which settings of the codec mean nothing for a model."""
        return self.codec.misfits(manifest)

    def over(self, rounds: int) -> Codec:
        """Return the codec with a schedule that ends with the run, unless it says when."""
        schedule = self.schedule
        if schedule.needs_rounds and schedule.rounds is None:
            schedule = replace(schedule, rounds=rounds)
        return replace(self, codec=self.codec.over(rounds), schedule=schedule)

    def with_value(self, value: float) -> Codec:
        """Return the codec with a value of the setting."""
        key = self.schedule.key
        whole = isinstance(getattr(self.codec, key), int)
        return replace(self.codec, **{key: round(value) if whole else value})  # type: ignore[arg-type]

    def at(self, context: Context) -> Codec:
        """Return the codec of this round."""
        return self._sending(context)[0].at(context)

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        """Turn tensors into the symbols of this round's codec."""
        codec, inner = self._sending(context)
        return self._marked(codec.quantise(tensors, inner), context)

    def quantise_weighted(self, tensors: Tensors, importance: Tensors, context: Context) -> Symbols:
        """Turn tensors into symbols with regard to importance."""
        codec, inner = self._sending(context)
        return self._marked(codec.quantise_weighted(tensors, importance, inner), context)

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        """Write the symbols."""
        if not self.schedule.adaptive:
            return self._fixed(context).pack(symbols, context)
        counts = {symbol.doublings for symbol in symbols.values()} or {self._doublings(context)}
        if len(counts) > 1:
            msg = f"symbols made after {sorted(counts)} changes of {self.schedule.key} are mixed"
            raise CodecError(msg)
        (count,) = counts
        plain = {name: symbol.symbol for name, symbol in symbols.items()}
        return varint(count) + self._after(count).pack(plain, self._inner(context))

    def unpack(self, data: bytes | memoryview, context: Context) -> Symbols:
        """Read what `pack` wrote."""
        if not self.schedule.adaptive:
            return self._fixed(context).unpack(data, context)
        count, codec, rest = self._received(data)
        found = codec.unpack(rest, self._inner(context))
        return {name: Doubled(count, symbol) for name, symbol in found.items()}

    def lazy(self, data: bytes | memoryview, context: Context) -> Mapping[str, Any]:
        """Find what `pack` wrote."""
        if not self.schedule.adaptive:
            return self._fixed(context).lazy(data, context)
        count, codec, rest = self._received(data)
        found = codec.lazy(rest, self._inner(context))

        def symbol(name: str) -> Doubled:
            return Doubled(count, found[name])

        sizes = {name: context.manifest.by_name[name].size for name in found}
        return LazySymbols({name: partial(symbol, name) for name in found}, sizes)

    def reconstruct(self, symbols: Symbols, context: Context) -> Tensors:
        """Turn symbols into tensors."""
        if not self.schedule.adaptive:
            return self._fixed(context).reconstruct(symbols, context)
        out: Tensors = {}
        for name, (count, symbol) in symbols.items():
            out |= self._after(count).reconstruct({name: symbol}, self._inner(context))
        return out

    def _ends(self) -> list[Codec]:
        ends = (self.schedule.start, self.schedule.end)
        return [self.with_value(value) for value in ends if value is not None]

    def _sending(self, context: Context) -> tuple[Codec, Context]:
        if not self.schedule.adaptive:
            return self._fixed(context), context
        return self._after(self._doublings(context)), self._inner(context)

    def _marked(self, symbols: Symbols, context: Context) -> Symbols:
        if not self.schedule.adaptive:
            return symbols
        count = self._doublings(context)
        return {name: Doubled(count, symbol) for name, symbol in symbols.items()}

    def _received(self, data: bytes | memoryview) -> tuple[int, Codec, memoryview]:
        reader = Reader(data)
        count = reader.varint()
        if count > self.schedule.doublings:
            most = self.schedule.doublings
            msg = f"{self.schedule.key} is said to have changed {count} times, it can {most} times"
            raise BitstreamError(msg)
        return count, self._after(count), reader.take(reader.left)

    def _fixed(self, context: Context) -> Codec:
        return self.with_value(self.schedule.at_round(context.round))

    def _after(self, doublings: int) -> Codec:
        return self.with_value(self.schedule.after(doublings))

    def _doublings(self, context: Context) -> int:
        return min(context.plateaus, self.schedule.doublings)

    @staticmethod
    def _inner(context: Context) -> Context:
        """Return the context as the codec knows it, without marks on earlier symbols."""
        if context.previous is None or isinstance(context.previous, Unmarked):
            return context
        return replace(context, previous=Unmarked(context.previous))
