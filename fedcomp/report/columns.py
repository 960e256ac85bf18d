"""The columns of rounds.csv that hold bytes, and how well models were packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.link.ledger import Entry, total

if TYPE_CHECKING:
    from fedcomp.report.observer import RoundResult

SENT = ("uplink_bytes", "downlink_bytes", "evaluation_bytes")
"""What adds up to all bytes that a round sent."""

BYTE_COLUMNS = (*SENT, "keyframe_bytes", "side_bytes")
BITS = ("uplink_bits_per_weight", "downlink_bits_per_weight")
RATE_COLUMNS = ("uplink_sparsity", "downlink_sparsity", *BITS)
PART_COLUMNS = (
    "uplink_header_bytes",
    "downlink_header_bytes",
    "uplink_side_bytes",
    "training_keyframe_bytes",
)
PARTS = (*PART_COLUMNS, "side_bytes")
"""Of those bytes, what is shown by itself."""


def round_bytes(entries: list[Entry]) -> dict[str, int]:
    """Return the byte columns of one round; keyframes and side are parts of the first three."""
    evaluation = total(entries, lambda e: e.purpose == "evaluate")
    up = total(entries, lambda e: e.purpose != "evaluate" and e.direction == "uplink")
    down = total(entries, lambda e: e.purpose != "evaluate" and e.direction == "downlink")
    keyframes = total(entries, lambda e: e.kind == "keyframe")
    side = total(entries, lambda e: e.purpose == "side")
    return dict(zip(BYTE_COLUMNS, (up, down, evaluation, keyframes, side), strict=True))


def part_bytes(entries: list[Entry]) -> dict[str, int]:
    """Return what a round's training bytes consist of beside what codecs wrote.

    Headers are those of packets that are no keyframes and were read; keyframes count as a whole.
    """
    train = [entry for entry in entries if entry.purpose == "train"]
    rest = [e for e in train if e.kind != "keyframe" and (e.payload_bytes or e.kind == "held")]
    up, down = (
        sum(e.packet_bytes - e.payload_bytes for e in rest if e.direction == direction)
        for direction in ("uplink", "downlink")
    )
    side = total(entries, lambda e: e.purpose == "side" and e.direction == "uplink")
    keyframes = total(train, lambda e: e.kind == "keyframe")
    return dict(zip(PART_COLUMNS, (up, down, side, keyframes), strict=True))


def rate_columns(result: RoundResult) -> dict[str, float]:
    """Return the share of zeros and the bits a weight of a round, of both directions."""
    rates = {"uplink": result.uplink, "downlink": result.downlink}
    made = {direction: rate for direction, rate in rates.items() if rate is not None}
    return {f"{d}_{name}": value for d, rate in made.items() for name, value in vars(rate).items()}
