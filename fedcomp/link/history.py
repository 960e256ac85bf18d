"""The packets that bring a client from an older version to the newest one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedcomp.wire.packet import HEADER_BYTES

if TYPE_CHECKING:
    from fedcomp.wire.packet import Packet


@dataclass
class History:
    """Consecutive deltas, the oldest first, within bounds of bytes and number.

    Parameters
    ----------
    max_bytes, max_packets
        The oldest packets are dropped beyond these, but never the newest one: without it every
        client would need a keyframe.
    """

    max_bytes: int
    max_packets: int
    packets: list[Packet] = field(default_factory=list)

    def append(self, packet: Packet) -> None:
        """Add the delta from the newest version to a new one."""
        self.packets.append(packet)
        while len(self.packets) > 1 and (
            len(self.packets) > self.max_packets or cost(self.packets) > self.max_bytes
        ):
            del self.packets[0]

    def since(self, version: bytes) -> int | None:
        """Return where the packets after a version start, or None if it is too old or unknown.

        A model can come back to an earlier version; the last occurrence is the nearest.
        """
        for index in range(len(self.packets) - 1, -1, -1):
            if self.packets[index].base == version:
                return index
        return None


def cost(packets: list[Packet]) -> int:
    """Return the bytes of packets as a chain, side information aside."""
    return sum(HEADER_BYTES + len(packet.payload) for packet in packets)
