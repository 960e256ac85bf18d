"""A run as lines of text: what its observers are told, for somebody who sees its output alone.

    fedcomp-event <key> <number> <check> <JSON>

The key is drawn by the writer, and the reader believes in the first that it meets: whoever makes
the writer's process print something, such as a client by the reason for its failure, does not know
it.  Every line holds the state of the run, not a change: one that is lost does no harm.
"""

from __future__ import annotations

import json
import re
import secrets
import zlib
from typing import TYPE_CHECKING, Any

from fedcomp.link.ledger import TOTALS, Ledger
from fedcomp.link.rate import Rate
from fedcomp.report.observer import Observer, RoundResult, RunStart
from fedcomp.tensors import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LINE = re.compile(r"fedcomp-event ([0-9a-f]{16}) (\d+) ([0-9a-f]{8}) (\{.*\})")
_SCALARS = (
    "round",
    "clients",
    "failures",
    "encode_seconds",
    "decode_seconds",
    "train_seconds",
    "wall_seconds",
    "network_seconds",
)
_START = ("parameters", "metric", "resumed")
_RATES = ("uplink", "downlink")


class EventWriter(Observer):
    """An observer that writes what it is told as lines.

    Of the end it says nothing: the summary comes when all observers have seen it.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._key = secrets.token_hex(8)
        self._number = 0

    def say(self, kind: str, **values: Any) -> None:
        """Write a line."""
        text = json.dumps({"kind": kind, **values})
        check = zlib.crc32(f"{self._key}{self._number}{text}".encode())
        # A line of its own, whatever somebody else has just begun to print, in a single call.
        self._write(f"\nfedcomp-event {self._key} {self._number} {check:08x} {text}\n")
        self._number += 1

    def on_start(self, start: RunStart) -> None:
        """Keep what is known of the run; every round says it."""
        self._start = start

    def on_round(self, result: RoundResult) -> None:
        """Write the state after a round."""
        ledger = self._start.ledger
        rates = {name: getattr(result, name) for name in _RATES}
        self.say(
            "round",
            start={name: getattr(self._start, name) for name in _START},
            totals={name: getattr(ledger, name) for name in TOTALS},
            result={
                **{name: getattr(result, name) for name in _SCALARS},
                "metrics": dict(result.metrics),
                "reports": dict(result.reports),
                **{name: rate and vars(rate) for name, rate in rates.items()},
            },
        )


class EventReader:
    """Tells observers what an `EventWriter` was told.

    Parameters
    ----------
    observers
        Told of each round once; the entries of a round and the final model stay elsewhere.
    notice
        Told of the other kinds of lines.
    """

    def __init__(
        self, observers: Sequence[Observer], notice: Callable[[str, dict[str, Any]], None]
    ) -> None:
        self._observers = observers
        self._notice = notice
        self._key = ""
        self._next = 0
        self._ledger: Ledger | None = None

    def read(self, line: str) -> bool:
        """Take a line of output; tell whether it was an event, be it one that is known already."""
        match = _LINE.fullmatch(line.strip())
        if match is None:
            return False
        key, number, check, text = match.groups()
        if f"{zlib.crc32(f'{key}{number}{text}'.encode()):08x}" != check:
            return False
        self._key = self._key or key
        if key != self._key:
            return False
        if int(number) >= self._next:
            self._next = int(number) + 1
            event = json.loads(text)
            kind = event.pop("kind")
            if kind == "round":
                self._round(event)
            else:
                self._notice(kind, event)
        return True

    def end(self) -> None:
        """Tell observers that nothing more will come."""
        if self._ledger is not None:
            for observer in self._observers:
                observer.on_end({})

    def _round(self, event: dict[str, Any]) -> None:
        if self._ledger is None:
            self._ledger = Ledger(Manifest(()))
            start = RunStart(**event["start"], ledger=self._ledger)
            for observer in self._observers:
                observer.on_start(start)
        for name, value in event["totals"].items():
            setattr(self._ledger, name, value)
        found = event["result"]
        rates = {name: found.pop(name) for name in _RATES}
        made: dict[str, Any] = {name: rate and Rate(**rate) for name, rate in rates.items()}
        result = RoundResult(**found, **made, entries=[])
        for observer in self._observers:
            observer.on_round(result)
