"""A run's events as lines among others."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.link.ledger import Entry, Ledger
from fedcomp.link.rate import Rate
from fedcomp.report.events import EventReader, EventWriter
from fedcomp.report.observer import Observer, RoundResult, RunStart
from fedcomp.tensors import Kind, Manifest, TensorSpec

ENTRY = Entry(1, "0", "uplink", "train", "delta", "topk", 90, 100, 130, 0.1)


class Watch(Observer):
    """Notes what an observer is told."""

    def __init__(self) -> None:
        self.starts: list[RunStart] = []
        self.results: list[tuple[RoundResult, int]] = []
        self.ends = 0

    def on_start(self, start: RunStart) -> None:
        self.starts.append(start)

    def on_round(self, result: RoundResult) -> None:
        self.results.append((result, self.starts[0].ledger.uplink_bytes))

    def on_end(self, model: Any) -> None:
        self.ends += 1


def written(rounds: int) -> list[str]:
    """Return the lines of a run, the notices among them."""
    lines: list[str] = []
    writer = EventWriter(lines.append)
    writer.say("folder", folder="/srv/run")
    ledger = Ledger(Manifest((TensorSpec("w", (4, 4), "float32", Kind.WEIGHT),)))
    writer.on_start(RunStart(16, "accuracy", ledger))
    for number in range(rounds + 1):
        ledger.add(ENTRY)
        rate = Rate(8.0, 0.5) if number else None
        metrics = {"accuracy": number / 10, "loss": math.nan if number == 2 else 1.0}
        result = RoundResult(
            round=number,
            metrics=metrics,
            entries=ledger.take(),
            reports={"train_loss": 2.0},
            uplink=rate,
            clients=3,
        )
        writer.on_round(result)
    writer.on_end({})
    writer.say("summary", summary={"rounds": rounds})
    return lines


def read(lines: list[str]) -> tuple[Watch, list[str], EventReader]:
    watch, notices = Watch(), list[str]()
    reader = EventReader([watch], lambda kind, _: notices.append(kind))
    for text in lines:
        for line in text.splitlines():
            reader.read(line)
    return watch, notices, reader


def test_observers_elsewhere_see_what_those_here_saw() -> None:
    watch, notices, reader = read(written(3))
    assert notices == ["folder", "summary"]
    (start,) = watch.starts
    assert (start.parameters, start.metric) == (16, "accuracy")
    assert [(r.round, sent) for r, sent in watch.results] == [
        (0, 100),
        (1, 200),
        (2, 300),
        (3, 400),
    ]
    first, last = watch.results[1][0], watch.results[3][0]
    assert first.metrics == {"accuracy": 0.1, "loss": 1.0}
    assert (first.uplink, first.downlink, first.clients) == (Rate(8.0, 0.5), None, 3)
    assert last.reports == {"train_loss": 2.0}
    assert math.isnan(watch.results[2][0].metrics["loss"])
    assert watch.ends == 0
    reader.end()
    assert watch.ends == 1


@given(lost=st.sets(st.integers(0, 5)), again=st.integers(0, 6))
def test_lost_and_repeated_lines_do_no_harm(lost: set[int], again: int) -> None:
    """The connection broke after some lines, and the whole log was read again."""
    lines = [line for number, line in enumerate(written(3)) if number not in lost]
    watch, notices, _ = read(lines[:again] + lines)
    kept = [round_number for round_number in range(4) if round_number + 1 not in lost]
    assert [(r.round, sent) for r, sent in watch.results] == [(n, 100 * (n + 1)) for n in kept]
    assert len(watch.starts) == (1 if kept else 0)
    assert notices == [k for k, n in (("folder", 0), ("summary", 5)) if n not in lost]


@given(text=st.text())
def test_other_output_is_no_event(text: str) -> None:
    assert not any(EventReader([], pytest.fail).read(line) for line in text.splitlines())


@given(at=st.integers(0, 10_000), letter=st.characters(codec="ascii"))
def test_a_damaged_line_is_none(at: int, letter: str) -> None:
    line = written(0)[1].strip()
    at %= len(line)
    changed = line[:at] + letter + line[at + 1 :]
    watch, _, _ = read([changed])
    assert bool(watch.results) == (changed.strip() == line)


def test_another_writer_is_not_believed() -> None:
    """A client whose words reach the output knows the form of the lines, and not the key."""
    true, forged = written(1), written(9)
    watch, notices, _ = read([*true[:2], *forged, *true[2:]])
    assert [r.round for r, _ in watch.results] == [0, 1]
    assert notices == ["folder", "summary"]


def test_a_line_stands_alone_whatever_was_being_printed() -> None:
    begun = ["50 % done …", *written(0)]
    watch, _, _ = read(["".join(begun) + "and more"])
    assert len(watch.results) == 1
