"""Replies as the server keeps them: bytes, decoded tensor by tensor when a strategy asks.

The memory of a round is that of its packets, and of what a strategy itself keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedcomp.errors import BitstreamError
from fedcomp.link.rate import moved
from fedcomp.link.session import restore
from fedcomp.tensors import Kind, add, subtract

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedcomp.codecs.base import Codec, Context, Symbols
    from fedcomp.link.settings import LinkSettings
    from fedcomp.tensors import Array, Tensors

MOST_COUNTS = 2**31
"""A counter counts mini-batches; a client cannot have trained on more of them in a round."""


class Received:
    """One client's model, as the server's codec understands its packet.

    Parameters
    ----------
    exact, public
        T and P of the version that the client trained from.

    Attributes
    ----------
    moved
        How many weights the reply changes; known once it has been checked.
    """

    def __init__(
        self,
        payload: bytes,
        codec: Codec,
        context: Context,
        exact: Tensors,
        public: Tensors,
    ) -> None:
        self.payload_bytes = len(payload)
        self.round = context.round
        self.side: Tensors = {}
        self.side_bytes = 0
        self.moved = 0
        self._payload = payload
        self._symbols = codec.lazy(payload, context)
        self._codec = codec
        self._context = context
        self._exact = exact
        self._public = public

    def unpack(self) -> Symbols:
        """Return the packet's symbols."""
        return self._codec.unpack(self._payload, self._context)

    def tensor(self, name: str) -> Array:
        """Return T + (client model − P) of one tensor."""
        return self._restored(name, self._symbols) if name in self._symbols else self._exact[name]

    def _restored(self, name: str, symbols: Mapping[str, Any]) -> Array:
        base = {name: self._public[name]}
        found = restore(self._codec, {name: symbols[name]}, base, self._context)
        if self._exact is not self._public:
            found = add({name: self._exact[name]}, subtract(found, base))
        return found[name]

    def check(self, limits: LinkSettings) -> None:
        """Raise unless all values are finite and the update within the largest norms."""
        squares = {"max_update_norm": 0.0, "max_buffer_norm": 0.0}
        bounds = {name: getattr(limits, name) for name in squares}
        symbols = self.unpack()
        for name in symbols:
            value = self._restored(name, symbols)
            spec = self._context.manifest.by_name[name]
            self.moved += moved(spec, self._exact[name], value)
            if not np.isfinite(value).all():
                msg = f"the reply holds values that are not finite, in {name}"
                raise BitstreamError(msg)
            counter = spec.kind is Kind.COUNTER
            if counter and not _within(value - self._public[name], MOST_COUNTS):
                msg = f"the reply counts {name} on by more than {MOST_COUNTS}"
                raise BitstreamError(msg)
            bound = "max_update_norm" if spec.is_parameter else "max_buffer_norm"
            if bounds[bound] is not None and not counter:
                change = value.astype(np.float64) - self._exact[name]
                squares[bound] += float(np.square(change, out=np.asarray(change)).sum())
        for name, most in bounds.items():
            if most is not None and (norm := squares[name] ** 0.5) > most:
                what = "change of the buffers" if name == "max_buffer_norm" else "update"
                msg = f"the {what} has the L2 norm {norm:.4g}, allowed is {most:g} (link.{name})"
                raise BitstreamError(msg)


def _within(change: Array, most: int) -> bool:
    """Tell whether −most ≤ change ≤ most; the smallest integer has no absolute value."""
    return bool(((change >= -most) & (change <= most)).all())
