"""Nodes that come late, leave, come back under another id, or claim what another one has."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

import strategies.roster as module
from fedcomp.errors import EngineError, LinkError, RunInterrupted
from fedcomp.link.ledger import Entry, Ledger
from fedcomp.tensors import Kind, Manifest, TensorSpec
from fedcomp.wire import keys
from fedcomp.wire.private import assume_identity, set_message_id
from strategies.handshake import meet
from strategies.roster import Roster
from tests.strategies.common import kinds, rounds, run_on


class Nodes:
    """A grid of nodes that say a site, an error, or nothing (None)."""

    def __init__(self, sites: dict[int, Any]) -> None:
        self.sites = sites
        self.asked: list[int] = []
        self.pulls = 0
        self.down: set[int] = set()
        self._open: dict[str, tuple[int, Message]] = {}

    def get_node_ids(self) -> list[int]:
        return list(self.sites)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        (message,) = messages
        node = message.metadata.dst_node_id
        if node in self.down:
            return []
        self.asked.append(node)
        set_message_id(message, str(len(self.asked)))
        self._open[message.metadata.message_id] = node, message
        return [message.metadata.message_id]

    def pull_messages(self, wanted: Iterable[str]) -> list[Message]:
        self.pulls += 1
        ready = [i for i in wanted if i in self._open]
        ready = [i for i in ready if self.sites.get(self._open[i][0]) is not None]
        return [self._answer(*self._open.pop(i)) for i in ready[:1]]

    def _answer(self, node: int, message: Message) -> Message:
        site = self.sites[node]
        if isinstance(site, Error):
            return Message(site, reply_to=message)
        return self.said({keys.SITE: site}, message)

    @staticmethod
    def said(fields: dict[str, Any], message: Message) -> Message:
        """Return an answer with the nonce of its question, unless it has one of its own."""
        question = message.content.config_records[keys.FIELDS]
        answer = ConfigRecord({keys.NONCE: question[keys.NONCE], **fields})
        return Message(RecordDict({keys.FIELDS: answer}), reply_to=message)


@pytest.fixture(autouse=True)
def _setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assume_identity()
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.1)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Manifest((TensorSpec("w", (1,), "float32", Kind.WEIGHT),)))


def roster(nodes: Nodes, ledger: Ledger) -> Roster:
    sites = {node: str(site) for node, site in nodes.sites.items()}
    return Roster(nodes, ledger, sites, Event())  # type: ignore[arg-type]


def test_nothing_is_sent_or_awaited_without_newcomers(ledger: Ledger) -> None:
    nodes = Nodes({7: "0", 8: "1"})
    known = roster(nodes, ledger)
    assert known.connected() == [7, 8]
    del nodes.sites[7]
    assert known.connected() == [8]
    assert (nodes.asked, nodes.pulls, ledger.take()) == ([], 0, [])


def test_a_node_that_nobody_knows_gets_no_message(ledger: Ledger) -> None:
    with pytest.raises(LinkError, match=r"goes to node 99, .* grid\.get_node_ids"):
        roster(Nodes({7: "0"}), ledger).site(99)


def test_a_client_that_comes_late_takes_part_in_its_place(ledger: Ledger) -> None:
    nodes = Nodes({7: "0", 8: "10"})
    known = roster(nodes, ledger)
    known.begin(3)
    nodes.sites[99] = "2"
    assert known.connected() == [7, 99, 8]
    assert known.site(99) == "2"
    assert known.sites() == ["0", "2", "10"]
    assert nodes.asked == [99]
    asked, answered = ledger.take()
    assert _what(asked) == (3, "", "downlink", "handshake")
    assert _what(answered) == (3, "2", "uplink", "handshake")
    assert min(asked.message_bytes, answered.message_bytes) > 20


def _what(entry: Entry) -> tuple[int, str, str, str]:
    return entry.round, entry.client, entry.direction, entry.purpose


def test_a_client_that_comes_back_under_another_id_is_the_same_client(ledger: Ledger) -> None:
    nodes = Nodes({7: "0", 8: "1"})
    known = roster(nodes, ledger)
    del nodes.sites[8]
    nodes.sites[99] = "1"
    assert known.connected() == [7, 99]
    assert known.site(8) == known.site(99) == "1"  # errors of the old node are still to come
    del nodes.sites[99]
    nodes.sites[8] = "1"
    assert known.connected() == [7, 8]


def test_a_site_that_a_living_node_has_is_not_given_to_a_second_one(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes({7: "0", 8: "1"})
    known = roster(nodes, ledger)
    nodes.sites[99] = "1"
    for _ in range(3):
        known.begin(1)
        assert known.connected() == [7, 8]
    assert nodes.asked == [99]
    assert caplog.text.count("node 99 claims site 1, which another one has") == 1
    del nodes.sites[8]  # Flower notices after a minute that a node has died
    assert known.connected() == [7, 99]


def test_a_silent_newcomer_is_waited_for_once_and_asked_in_each_exchange(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes({7: "0", 99: None})
    known = Roster(nodes, ledger, {7: "0"}, Event())  # type: ignore[arg-type]
    for exchange in (1, 2):
        known.begin(exchange)
        before = nodes.pulls
        for _ in range(2):
            assert known.connected() == [7]
        waited = nodes.pulls - before > 2
        assert waited == (exchange == 1)
        assert nodes.asked == exchange * [99]
    nodes.sites[99] = "1"
    for _ in range(2):  # an answer to either question
        assert known.connected() == [7, 99]
    assert "claims site" not in caplog.text
    assert len([e for e in ledger.take() if e.direction == "uplink"]) == 2


@pytest.mark.parametrize("answer", [Error(0, "no disk"), 5, ""])
def test_a_newcomer_that_names_no_site_does_not_take_part(
    answer: Any, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes({7: "0", 99: answer})
    known = Roster(nodes, ledger, {7: "0"}, Event())  # type: ignore[arg-type]
    assert known.connected() == [7]
    assert "node 99 is new and does not take part: " in caplog.text
    with pytest.raises(EngineError, match=r"a client could not start: (no disk|it names)"):
        meet(nodes, 2, ledger, Event(), 1.0)  # type: ignore[arg-type]


def test_a_newcomer_that_cannot_be_asked_is_asked_again(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Nodes({7: "0", 99: "1"})
    known = Roster(nodes, ledger, {7: "0"}, Event())  # type: ignore[arg-type]
    nodes.down = {99}
    assert known.connected() == [7]
    assert "node 99 is new and cannot be asked" in caplog.text
    assert ledger.take() == []
    nodes.down = set()
    known.begin(2)
    assert known.connected() == [7, 99]


def test_waiting_for_a_newcomer_ends_with_the_run(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 1e9)
    stop = Event()
    stop.set()
    nodes: Any = Nodes({7: "0", 99: None})
    with pytest.raises(RunInterrupted):
        Roster(nodes, ledger, {7: "0"}, stop).connected()


def test_runs_take_up_clients_that_join_and_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Client 1 restarts under another id before round 2; client 4 joins before round 3."""
    import fedcomp.engines.inline as inline

    number = [0]
    make = inline._grid

    def twins(app: Any, contexts: dict[int, Any]) -> Any:
        from flwr.app import Context

        config = dict(contexts[1000].run_config)
        for node, site in ((2001, 1), (2004, 3)):
            here = {"partition-id": site, "num-partitions": 4}
            contexts[node] = Context(contexts[1000].run_id, node, here, RecordDict(), dict(config))
        return make(app, contexts)

    def misbehave(grid: Any) -> None:
        everybody, push = grid.get_node_ids, grid.push_messages

        def there() -> list[int]:
            gone = {1001} if number[0] >= 2 else {2001}
            gone |= {2004} if number[0] < 3 else {1003}
            return [node for node in everybody() if node not in gone]

        def watched(messages: Any) -> Any:
            (message,) = messages
            fields = message.content.config_records.get(keys.FIELDS)
            number[0] = fields.get(keys.ROUND_FIELD, number[0]) if fields else number[0]
            return push([message])

        def pulled(wanted: Any) -> Any:
            found = pull(wanted)
            if number[0] and not grid._replies:
                number[0] += 1  # the next round begins
            return found

        pull = grid.pull_messages
        grid.get_node_ids, grid.push_messages, grid.pull_messages = there, watched, pulled

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr(inline, "_grid", twins)
        folder, rows = run_on(tmp_path, misbehave, "method=half", "rounds=3")
    assert rounds(folder) == [(4, 0), (4, 0), (4, 0)]
    assert "site 1 is node 2001 from now on" in caplog.text
    assert "site 3 is node 2004 from now on" in caplog.text
    assert kinds(rows, 1, 2) == [
        ("uplink", "message"), ("downlink", "delta"), ("uplink", "delta"),
    ]  # fmt: skip
