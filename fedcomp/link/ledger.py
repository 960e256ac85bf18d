"""The account of every packet: who, when, which direction, what for, how many bytes."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fedcomp.tensors import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedcomp.codecs.base import Direction
    from fedcomp.tensors import Manifest, Tensors

Purpose: TypeAlias = Literal["handshake", "train", "evaluate", "side"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of `packets.csv`.

    A packet with side information is two rows: the side's bytes under purpose `side`, all the
    rest, and the whole message, under the purpose of the exchange.
    """

    round: int
    client: str
    direction: Direction
    purpose: Purpose
    kind: str
    codec: str
    payload_bytes: int
    packet_bytes: int
    message_bytes: int
    seconds: float


ENTRY_FIELDS = tuple(field.name for field in fields(Entry))

TOTALS = (
    "reference_bytes",
    "uplink_bytes",
    "downlink_bytes",
    "evaluation_bytes",
    "message_bytes",
    "failures",
)


class Ledger:
    """All entries of the rounds since the last `take`, and the totals of the whole run.

    Attributes
    ----------
    reference_bytes
        What float32 would have cost: 4 bytes × elements, each way, for each client that trained;
        scale factors, which a method adds to the model, would not have been there.
    failures
        How often a client gave no usable reply, in rounds that ended early, too.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.failures = 0
        self.reference_bytes = 0
        self.uplink_bytes = 0
        self.downlink_bytes = 0
        self.evaluation_bytes = 0
        self.message_bytes = 0
        self._elements = sum(s.size for s in manifest.specs if s.kind is not Kind.SCALE)
        self._open: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Book one packet."""
        self._open.append(entry)
        self.message_bytes += entry.message_bytes
        if entry.purpose == "evaluate":
            self.evaluation_bytes += entry.packet_bytes
        elif entry.direction == "uplink":
            self.uplink_bytes += entry.packet_bytes
        else:
            self.downlink_bytes += entry.packet_bytes

    def trained(self, clients: int) -> None:
        """Note how many clients took part in a round."""
        self.reference_bytes += 2 * 4 * self._elements * clients

    def save(self) -> tuple[Tensors, dict[str, Any]]:
        """Return the totals, and the entries that nobody has taken, as values for JSON."""
        totals = {name: getattr(self, name) for name in TOTALS}
        return {}, {"totals": totals, "open": [astuple(entry) for entry in self._open]}

    def load(self, arrays: Tensors, values: dict[str, Any]) -> None:  # noqa: ARG002
        """Take up a saved state."""
        for name in TOTALS:
            setattr(self, name, values["totals"][name])
        self._open = [Entry(*row) for row in values["open"]]

    def take(self) -> list[Entry]:
        """Return the entries since the last call."""
        entries, self._open = self._open, []
        return entries

    @property
    def total_bytes(self) -> int:
        """All packet bytes, both ways, evaluation included."""
        return self.uplink_bytes + self.downlink_bytes + self.evaluation_bytes

    @property
    def compression_ratio(self) -> float | None:
        """Reference bytes over training bytes both ways; None before the first byte."""
        sent = self.uplink_bytes + self.downlink_bytes
        return self.reference_bytes / sent if sent else None


def total(entries: list[Entry], chosen: Callable[[Entry], bool]) -> int:
    """Sum the packet bytes of the chosen entries."""
    return sum(entry.packet_bytes for entry in entries if chosen(entry))
