"""Replies as the server keeps them: bytes, decoded tensor by tensor when a strategy asks.

The memory of a round is that of its packets, and of the one reply that is being read.  A strategy
that goes through all replies tensor by tensor (the median) is noticed, and then all stay decoded.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from fedcomp.errors import BitstreamError
from fedcomp.link.session import restore
from fedcomp.tensors import add, subtract

if TYPE_CHECKING:
    from fedcomp.codecs.base import Codec, Context, Symbols
    from fedcomp.tensors import Array, Tensors


MOST_PASSES = 3
"""Checking, averaging and putting buffers back go through all replies once each."""


class DecodedCache:
    """The symbols of the reply read last; of all replies once one is decoded too often."""

    def __init__(self) -> None:
        self._symbols: dict[Received, Symbols] = {}
        self._passes: Counter[Received] = Counter()

    def symbols(self, reply: Received) -> Symbols:
        """Return the symbols of a reply, decoded if they are not at hand."""
        if reply not in self._symbols:
            self._passes[reply] += 1
            if max(self._passes.values()) <= MOST_PASSES:
                self._symbols.clear()
            self._symbols[reply] = reply.unpack()
        return self._symbols[reply]

    def release(self) -> None:
        """Forget all symbols."""
        self._symbols.clear()


class Received:
    """One client's model, as the server's codec understands its packet.

    Parameters
    ----------
    exact, public
        T and P of the version that the client trained from.
    """

    def __init__(
        self,
        payload: bytes,
        codec: Codec,
        context: Context,
        exact: Tensors,
        public: Tensors,
        cache: DecodedCache,
    ) -> None:
        self.payload_bytes = len(payload)
        self.side: Tensors = {}
        self.side_bytes = 0
        self._payload = payload
        self._codec = codec
        self._context = context
        self._exact = exact
        self._public = public
        self._cache = cache

    def unpack(self) -> Symbols:
        """Return the packet's symbols."""
        return self._codec.unpack(self._payload, self._context)

    def tensor(self, name: str) -> Array:
        """Return T + (client model − P) of one tensor."""
        symbols = self._cache.symbols(self)
        base = {name: self._public[name]}
        if name not in symbols:
            return self._exact[name]
        found = restore(self._codec, {name: symbols[name]}, base, self._context)
        if self._exact is not self._public:
            found = add({name: self._exact[name]}, subtract(found, base))
        return found[name]

    def check(self, max_norm: float | None) -> None:
        """Raise unless all values are finite and the update within the largest norm."""
        squares = 0.0
        for name in self._cache.symbols(self):
            value = self.tensor(name)
            if not np.isfinite(value).all():
                msg = f"the reply holds values that are not finite, in {name}"
                raise BitstreamError(msg)
            if max_norm is not None:
                change = value.astype(np.float64) - self._exact[name]
                squares += float(np.square(change, out=np.asarray(change)).sum())
        self._cache.release()
        if max_norm is not None and squares > max_norm**2:
            msg = (
                f"the update has the L2 norm {squares**0.5:.4g}, allowed is {max_norm:g}"
                " (link.max_update_norm)"
            )
            raise BitstreamError(msg)
