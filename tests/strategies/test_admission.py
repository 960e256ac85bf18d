"""Who takes part in a deployment: the start, keys, and impostors."""

from __future__ import annotations

import json
import logging
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Error, Message

import strategies.gathering as gathering
import strategies.roster as roster_module
from fedcomp.errors import EngineError
from fedcomp.link.ledger import Ledger
from fedcomp.tensors import Kind, Manifest, TensorSpec
from fedcomp.wire import keys
from fedcomp.wire.private import assume_identity
from strategies.admission import Admission
from strategies.gathering import gather
from strategies.roster import Roster
from tests.strategies.test_roster import Nodes

SESSION = b"1234"


class Keyed(Nodes):
    """Nodes with public keys, by default one each; answers may be whole records."""

    def __init__(self, sites: dict[int, Any], **by_node: bytes) -> None:
        super().__init__(sites)
        self.keys = {int(name.removeprefix("n")): key for name, key in by_node.items()}
        self.looks = self.key_requests = 0

    def get_node_ids(self) -> list[int]:
        self.looks += 1
        return super().get_node_ids()

    def get_nodes(self) -> list[Any]:
        self.key_requests += 1
        own = {node: str(node).encode() for node in self.sites}
        found = {**own, **self.keys}
        return [SimpleNamespace(node_id=n, public_key=found[n]) for n in self.sites]

    def _answer(self, node: int, message: Message) -> Message:
        fields = self.sites[node]
        if not isinstance(fields, dict):
            return super()._answer(node, message)
        return self.said(fields, message)


@pytest.fixture(autouse=True)
def _setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assume_identity()
    monkeypatch.setattr(roster_module, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(gathering, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(gathering, "LATE_SECONDS", 0.1)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(Manifest((TensorSpec("w", (1,), "float32", Kind.WEIGHT),)))


def gathered(
    nodes: Keyed, clients: int, ledger: Ledger, bind: bool = True, seconds: float = 5.0
) -> tuple[dict[int, str], Admission]:
    admission = Admission(nodes, clients, bind=bind)  # type: ignore[arg-type]
    found = gather(nodes, clients, ledger, admission, SESSION, seconds)  # type: ignore[arg-type]
    return found, admission


def test_sites_come_in_their_order_and_the_handshake_is_booked(ledger: Ledger) -> None:
    found, _ = gathered(Keyed({5: "10", 6: "9", 7: "north"}), 3, ledger)
    assert list(found.items()) == [(6, "9"), (5, "10"), (7, "north")]
    assert len(ledger.take()) == 6


def test_unfit_nodes_do_not_keep_a_run_from_starting(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    unfit = {
        1: {keys.PROBLEM: "fedcomp 1 is installed here and the job needs 2"},
        2: Error(1, "An exception was raised when attempting to load `ClientApp`"),
        3: {keys.SITE: "../etc"},
        4: {keys.SITE: "3", keys.SESSION: b"else"},
        5: {},
        6: {keys.SITE: "4", keys.NONCE: b"overheard"},
    }
    fit = {8: "1", 9: {keys.SITE: "0", keys.SESSION: SESSION}}
    found, _ = gathered(Keyed({**unfit, **fit}), 2, ledger)
    assert list(found.items()) == [(9, "0"), (8, "1")]
    for node, reason in [
        (1, "fedcomp 1 is installed here"),
        (2, "An exception was raised when attempting to load"),
        (3, r"it names '../etc' as its partition"),
        (4, "site 3: its model is another one"),
        (5, "it names None as its partition"),
        (6, "its answer is not one to the question that it was asked"),
    ]:
        assert caplog.text.count(f"node {node} is left out: {reason}") == 1


def test_too_few_fit_nodes_end_the_wait_with_the_reasons(ledger: Ledger) -> None:
    nodes = Keyed({1: "0", 2: {keys.PROBLEM: "no data"}, 3: "0"})
    with pytest.raises(EngineError, match=r"1 of 3 clients are there after 0\.3 s") as caught:
        gathered(nodes, 3, ledger, seconds=0.3)
    assert "; node 2 was refused: no data" in str(caught.value)
    assert "was refused: it claims site 0, which another one has" in str(caught.value)


def test_nodes_may_come_and_be_mended_while_the_run_waits(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "AGAIN_SECONDS", 0.01)

    class Late(Keyed):
        def get_node_ids(self) -> list[int]:
            if self.looks == 5:
                self.sites[2] = "1"  # mended, under the same name
            if self.looks == 8:
                self.sites[3] = "2"
            return super().get_node_ids()

    found, _ = gathered(Late({1: "0", 2: {keys.PROBLEM: "no data"}}), 3, ledger)
    assert found == {1: "0", 2: "1", 3: "2"}


def test_more_nodes_than_clients_are_left_out(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    found, _ = gathered(Keyed({1: "c", 2: "a", 3: "b"}), 2, ledger)
    assert found == {2: "a", 3: "b"}
    assert "node 1 is left out: it is site c, and the run has its 2 clients" in caplog.text


def test_a_silent_node_is_not_waited_for_when_there_are_enough(ledger: Ledger) -> None:
    assert gathered(Keyed({1: "0", 2: None}), 1, ledger)[0] == {1: "0"}


def deployed_roster(
    nodes: Keyed, ledger: Ledger, clients: int, bind: bool
) -> tuple[Roster, Admission]:
    found, admission = gathered(nodes, clients, ledger, bind)
    known = Roster(nodes, ledger, found, Event(), admission, SESSION)  # type: ignore[arg-type]
    known.begin(1)
    return known, admission


@pytest.mark.parametrize("away", [False, True])
def test_a_bound_site_is_not_given_to_another_key(
    away: bool, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """Also while the one it belongs to is away, which is when an impostor would try."""
    nodes = Keyed({7: "0", 8: "1"})
    known, _ = deployed_roster(nodes, ledger, 2, bind=True)
    if away:
        del nodes.sites[8]
    nodes.sites[99] = "1"
    for number in range(2, 5):
        known.begin(number)
        assert known.connected() == ([7] if away else [7, 8])
    assert caplog.text.count("node 99 is left out: it claims site 1, which belongs to another") == 1
    assert nodes.asked.count(99) == 1
    nodes.sites[8] = "1"
    assert known.connected() == [7, 8]


def test_a_key_brings_its_site_back_under_another_node_id(ledger: Ledger) -> None:
    nodes = Keyed({7: "0", 8: "1"}, n8=b"key", n99=b"key")
    known, _ = deployed_roster(nodes, ledger, 2, bind=True)
    del nodes.sites[8]
    nodes.sites[99] = "1"
    assert known.connected() == [7, 99]


def test_without_binding_a_site_goes_to_another_key_once_its_node_is_gone(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Keyed({7: "0", 8: "1"})
    known, _ = deployed_roster(nodes, ledger, 2, bind=False)
    nodes.sites[99] = "1"
    assert known.connected() == [7, 8]
    assert "node 99 claims site 1, which another one has" in caplog.text
    del nodes.sites[8]
    assert known.connected() == [7, 99]


def test_newcomers_beyond_the_clients_are_left_out(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Keyed({7: "0", 8: "1"})
    known, _ = deployed_roster(nodes, ledger, 2, bind=True)
    nodes.sites[99] = "2"
    with caplog.at_level(logging.WARNING):
        assert known.connected() == [7, 8]
    assert "node 99 is left out: it is site 2, and the run has its 2 clients" in caplog.text


@pytest.mark.parametrize("bind", [True, False])
def test_bindings_outlive_the_server(bind: bool, ledger: Ledger) -> None:
    """What was saved goes through JSON; an impostor at the start of a resumed run is refused."""
    _, admission = gathered(Keyed({7: "0", 8: "1"}), 2, ledger)
    arrays, values = admission.save()
    nodes = Keyed({3: "0", 8: "1"})
    resumed = Admission(nodes, 2, bind=bind)  # type: ignore[arg-type]
    resumed.load(arrays, json.loads(json.dumps(values)))
    if not bind:
        assert gather(nodes, 2, ledger, resumed, SESSION, 5.0) == {3: "0", 8: "1"}  # type: ignore[arg-type]
        return
    with pytest.raises(EngineError, match="node 3 was refused: it claims site 0, which belongs to"):
        gather(nodes, 2, ledger, resumed, SESSION, 0.2)  # type: ignore[arg-type]


def test_no_site_belongs_to_a_node_without_a_key(ledger: Ledger) -> None:
    """Such a node has gone by the time its key is looked up; it could never come back."""
    nodes = Keyed({7: "0", 8: "1"}, n8=b"")
    known, _ = deployed_roster(nodes, ledger, 2, bind=True)
    del nodes.sites[8]
    nodes.sites[99] = "1"
    assert known.connected() == [7, 99]


def test_keys_are_not_asked_for_once_a_node(ledger: Ledger) -> None:
    nodes = Keyed({node: str(node) for node in range(20)})
    gathered(nodes, 20, ledger)
    assert nodes.key_requests == 1


def resumed(nodes: Keyed, clients: int, ledger: Ledger, seconds: float) -> dict[int, str]:
    """Gather for a run in which sites 1 and 2 took part before it was resumed."""
    _, before = gathered(Keyed({1: "1", 2: "2"}), 2, ledger)
    admission = Admission(nodes, clients, bind=True)  # type: ignore[arg-type]
    admission.load(*before.save())
    return gather(nodes, clients, ledger, admission, SESSION, seconds)  # type: ignore[arg-type]


def test_a_resumed_run_takes_those_who_took_part_before(ledger: Ledger) -> None:
    assert resumed(Keyed({9: "0", 1: "1", 2: "2"}), 2, ledger, 5.0) == {1: "1", 2: "2"}


def test_a_resumed_run_waits_for_those_who_took_part_before(ledger: Ledger) -> None:
    class Late(Keyed):
        def get_node_ids(self) -> list[int]:
            if self.looks == 50:
                self.sites[2] = "2"
            return super().get_node_ids()

    assert resumed(Late({9: "0", 1: "1"}), 2, ledger, 5.0) == {1: "1", 2: "2"}


def test_a_resumed_run_goes_on_with_others_in_the_end(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    assert resumed(Keyed({9: "0", 1: "1"}), 2, ledger, 0.2) == {9: "0", 1: "1"}
    assert "site 2 took part in this run before, which now goes on without it" in caplog.text


class Flicker(Keyed):
    """Node 1 is away for one look, in which node 7 says that it is the same site."""

    def get_node_ids(self) -> list[int]:
        there = super().get_node_ids()
        if self.looks == 5:
            self.sites[7] = self.sites[1]
            return [2, 7]
        if self.looks == 8:
            self.sites[3] = "5"
        return [node for node in there if node != 7 or self.looks > 4]

    def pull_messages(self, wanted: Any) -> list[Message]:
        return [reply for _ in range(3) for reply in super(Flicker, self).pull_messages(wanted)]


@pytest.mark.parametrize("bind", [True, False])
def test_a_site_has_its_key_from_the_first_answer_on(bind: bool, ledger: Ledger) -> None:
    found, _ = gathered(Flicker({1: "0", 2: "1"}), 3, ledger, bind)
    assert found == {1 if bind else 7: "0", 2: "1", 3: "5"}


def part(site: str, number: int) -> dict[str, object]:
    return {keys.SITE: site, keys.PARTITION: number}


def test_a_part_of_the_data_has_one_site(ledger: Ledger) -> None:
    nodes = Keyed({1: part("a", 0), 2: part("b", 0), 3: part("c", 1)})
    with pytest.raises(EngineError, match="it is site b with partition-id=0, whose data site a ha"):
        gathered(nodes, 3, ledger, seconds=0.2)
    own = Keyed({1: part("a", 0), 2: part("b", 1), 3: "c"})
    assert gathered(own, 3, ledger)[0] == {1: "a", 2: "b", 3: "c"}


def test_a_part_of_the_data_has_one_site_during_the_run_too(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = Keyed({1: part("a", 0), 2: part("b", 1)})
    known, admission = deployed_roster(nodes, ledger, 2, bind=False)
    _, values = admission.save()
    assert json.loads(json.dumps(values))["parts"] == {"a": 0, "b": 1}
    del nodes.sites[2]
    nodes.sites[9] = part("b", 0)
    assert known.connected() == [1]
    assert "node 9 is left out: it is site b with partition-id=0" in caplog.text
    nodes.sites[10] = part("b", 1)
    assert known.connected() == [1, 10]


def test_a_node_may_be_given_another_name_while_the_run_waits(ledger: Ledger) -> None:
    class Renamed(Keyed):
        def get_node_ids(self) -> list[int]:
            there = super().get_node_ids()
            if self.looks == 5:
                self.sites[1] = part("z", 0)
                return [node for node in there if node != 1]
            if self.looks == 8:
                self.sites[2] = part("b", 1)
            return there

    found, admission = gathered(Renamed({1: part("a", 0)}), 2, ledger)
    assert found == {2: "b", 1: "z"}
    assert admission.sites == {"b", "z"}
