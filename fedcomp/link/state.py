"""What a client must not forget between two messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safetensors.numpy import load_file

from fedcomp.wire.fields import NO_EXCHANGE

if TYPE_CHECKING:
    from pathlib import Path

    from fedcomp.tensors import Tensors


class Part:
    """Some of a client's tensors, in memory or still in the file that they were saved to."""

    def __init__(self, tensors: Tensors | None = None, path: Path | None = None) -> None:
        self._tensors = {} if path is None and tensors is None else tensors
        self.path = path

    @property
    def tensors(self) -> Tensors:
        """The tensors, read when first asked for."""
        if self._tensors is None:
            assert self.path is not None  # noqa: S101  see __init__
            self._tensors = load_file(self.path)
        return self._tensors


@dataclass(frozen=True)
class Pending:
    """A reply that the server has not acknowledged yet.

    Attributes
    ----------
    previous
        The exchange whose symbols the packet refers to.
    note
        What the reply said beside its packet, to be said again.
    symbols
        The symbols sent, packed, where the next packet may refer to them.
    decoded
        The change that the server sees in the parameters, where there is feedback.
    """

    exchange: bytes
    blob: bytes = field(repr=False)
    previous: bytes = NO_EXCHANGE
    note: str = ""
    symbols: bytes = field(default=b"", repr=False)
    decoded: Part = field(default_factory=Part, repr=False)


@dataclass(frozen=True)
class Previous:
    """Packed symbols of the last reply that the server used."""

    exchange: bytes = NO_EXCHANGE
    payload: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class ClientState:
    """What a client must not forget: version, residual, and what it sent last."""

    version: bytes = b""
    model: Tensors = field(default_factory=dict, repr=False)
    exchange: bytes = NO_EXCHANGE
    residual: Part = field(default_factory=Part, repr=False)
    pending: Pending | None = None
    previous: Previous = field(default_factory=Previous)
