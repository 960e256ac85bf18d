"""Messages that are not sent, not answered, answered twice, too late, or with a refusal."""

from __future__ import annotations

import logging
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message, RecordDict

from fedcomp.errors import EngineError, LinkError, StaleError
from fedcomp.link.client import ClientLink
from fedcomp.wire.private import assume_identity
from strategies.mailbox import MOST_EXCHANGES, Letter, Mailbox
from tests.common import equal, read_csv, read_summary
from tests.strategies.common import kinds, rounds, run_on, site_of
from tests.strategies.test_strategies import Watch


def _unchanged(grid: Any) -> None: ...


@pytest.mark.parametrize("result", [[], [None], [""]])
def test_a_message_that_is_not_sent_is_a_failure_at_once(result: Any, tmp_path: Path) -> None:
    def misbehave(grid: Any) -> None:
        push = grid.push_messages

        def refuse(messages: Any) -> Any:
            (message,) = messages
            training = message.metadata.message_type == "train"
            return result if training and site_of(message) == 1 else push([message])

        grid.push_messages = refuse

    folder, rows = run_on(tmp_path, misbehave, "engine.round_timeout=3600")
    assert rounds(folder) == [(3, 1), (3, 1)]
    assert kinds(rows, 1, 1) == []


def test_a_handshake_that_is_not_sent_ends_the_start(tmp_path: Path) -> None:
    def misbehave(grid: Any) -> None:
        push = grid.push_messages
        grid.push_messages = lambda messages: [] if site_of(messages[0]) == 2 else push(messages)

    with pytest.raises(EngineError, match="nothing can be sent to 1 of 4 clients"):
        run_on(tmp_path, misbehave)


def test_a_reply_that_comes_twice_is_booked_and_used_once(tmp_path: Path) -> None:
    def misbehave(grid: Any) -> None:
        pull = grid.pull_messages
        grid.pull_messages = lambda wanted: [copy(m) for m in pull(wanted) for _ in range(2)]

    once, twice = Watch(), Watch()
    run_on(tmp_path / "once", _unchanged, "method=half", observers=[once])
    folder, rows = run_on(tmp_path / "twice", misbehave, "method=half", observers=[twice])
    assert equal(once.model, twice.model)
    assert rounds(folder) == [(4, 0), (4, 0)]
    assert kinds(rows, 1, 0) == [("uplink", "message"), ("uplink", "duplicate")]
    for number in (1, 2):
        used, again = (r for r in rows if _is_answer(r, 1, number))
        assert again["kind"] == "duplicate"
        assert again["packet_bytes"] == used["packet_bytes"]
        assert 0 < int(again["packet_bytes"]) < int(again["message_bytes"])


def _is_answer(row: dict[str, str], client: int, number: int) -> bool:
    return (row["client"], row["round"], row["direction"]) == (str(client), str(number), "uplink")


@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_a_reply_that_comes_too_late_is_booked_and_not_used(purpose: str, tmp_path: Path) -> None:
    words = ("method=half", "engine.round_timeout=0.3", "strategy.fraction_evaluate=1.0")
    late, absent = Watch(), Watch()

    def keep(grid: Any, *, deliver: bool) -> None:
        """Hold back what client 1 answers in round 1 for as long as that exchange lasts."""
        push, pull, held = grid.push_messages, grid.pull_messages, list[Any]()
        sent: list[tuple[str, int]] = []

        def watched(messages: Any) -> Any:
            sent.extend((m.metadata.message_type, site_of(m)) for m in messages)
            return push(messages)

        def delayed(wanted: Any) -> Any:
            arrived = pull(wanted)
            if sent.count((purpose, 1)) == 1 and sent[-1][0] == purpose:
                held.extend(m for m in arrived if site_of(m) == 1)
                return [m for m in arrived if site_of(m) != 1]
            ready = [m for m in held if deliver and m.metadata.reply_to_message_id in wanted]
            held[:] = [m for m in held if m not in ready]
            return [*ready, *arrived]

        grid.push_messages, grid.pull_messages = watched, delayed

    never = lambda grid: keep(grid, deliver=False)  # noqa: E731
    run_on(tmp_path / "absent", never, *words, observers=[absent])
    folder, rows = run_on(
        tmp_path / "late", lambda grid: keep(grid, deliver=True), *words, observers=[late]
    )
    assert equal(late.model, absent.model)
    assert read_summary(folder)["failures"] == 1
    (row,) = (row for row in rows if row["kind"] == "late")
    assert (row["client"], row["purpose"], row["direction"]) == ("1", purpose, "uplink")
    assert int(row["message_bytes"]) > int(row["packet_bytes"])
    assert (int(row["packet_bytes"]) > 0) == (purpose == "train")
    uplink = [int(r["uplink_bytes"]) for r in read_csv(folder / "rounds.csv")]
    trained = [r for r in rows if r["direction"] == "uplink" and r["purpose"] == "train"]
    for number in (1, 2):  # a late one counts in the round in which it came
        mine = [int(r["packet_bytes"]) for r in trained if r["round"] == str(number)]
        assert uplink[number] == sum(mine)


def test_what_a_strategy_sends_itself_and_forgets_is_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.serverapp.strategy import FedAvg

    configure = FedAvg.configure_evaluate

    def forgetful(self: FedAvg, number: int, arrays: Any, config: Any, grid: Any) -> Any:
        assert len(grid.push_messages(configure(self, number, arrays, config, grid))) == 4
        return []

    monkeypatch.setattr(FedAvg, "configure_evaluate", forgetful)
    folder, rows = run_on(tmp_path, _unchanged, "strategy.fraction_evaluate=1.0")
    assert rounds(folder) == [(4, 0), (4, 0)]
    late = [(row["round"], row["purpose"]) for row in rows if row["kind"] == "late"]
    assert late == 4 * [("2", "evaluate")]


def test_letters_are_forgotten_once_they_are_answered() -> None:
    assume_identity()
    mail = Mailbox()
    request = Message(RecordDict(), 1, "train")
    for name in ("a", "b"):
        mail.add(name, Letter("0", "train", request))
    assert mail.take("a") is not None
    mail.add("c", Letter("0", "train", request), instead_of="a")
    assert mail.waiting(["a", "b", "x"]) == ["c", "b"]
    assert [mail.take("c"), mail.take("x")] == [Letter("0", "train", request), None]
    assert mail.take("c") == Letter("0", "train", None, "duplicate")
    mail.begin()
    assert mail.overdue() == ["b"]
    assert [mail.take("a"), mail.take("c")] == [None, None]
    assert mail.take("b") == Letter("0", "train", None, "late", age=1)
    assert (mail.overdue(), mail.waiting(["a", "b", "c"])) == ([], [])


def test_a_letter_is_not_waited_for_for_ever() -> None:
    mail = Mailbox()
    mail.add("a", Letter("0", "train", Message(RecordDict(), 1, "train")))
    seen = []
    for _ in range(MOST_EXCHANGES + 2):
        mail.begin()
        seen.append(mail.overdue())
    assert seen == [["a"]] * MOST_EXCHANGES + [[], []]
    assert mail.take("a") is None


def test_clients_that_are_too_slow_are_failures(tmp_path: Path) -> None:
    def misbehave(grid: Any) -> None:
        pull = grid.pull_messages
        grid.pull_messages = lambda wanted: [
            m for m in pull(wanted) if m.metadata.message_type == "query" or site_of(m) != 1
        ]

    folder, rows = run_on(tmp_path, misbehave, "engine.round_timeout=0.1")
    assert rounds(folder) == [(3, 1), (3, 1)]
    assert [row["kind"] for row in rows if row["client"] == "1"][1:] == ["held", "absolute"]


def test_a_client_that_is_asked_twice_gets_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flwr.serverapp.strategy import FedAvg

    configure = FedAvg.configure_train

    def twice(self: FedAvg, *arguments: Any) -> Any:
        messages = list(configure(self, *arguments))
        return [*messages, *messages[:2]]

    monkeypatch.setattr(FedAvg, "configure_train", twice)
    folder, rows = run_on(tmp_path, _unchanged)
    assert rounds(folder) == [(4, 0), (4, 0)]
    assert len(kinds(rows, 0, 1)) == 2


def test_a_client_that_refuses_keyframes_too_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []
    real = ClientLink.open

    def refuse(self: ClientLink, *arguments: Any) -> None:
        if self.site != "1":
            return real(self, *arguments)
        calls.append(self.site)
        if len(calls) > 9:
            raise RuntimeError("it never ends")
        raise LinkError("disk unreadable")

    monkeypatch.setattr(ClientLink, "open", refuse)
    with caplog.at_level(logging.WARNING):
        folder, rows = run_on(tmp_path, _unchanged)
    assert rounds(folder) == [(3, 1), (3, 1)]
    assert kinds(rows, 1, 1) == [
        ("downlink", "held"), ("uplink", "nack"), ("downlink", "keyframe"), ("uplink", "nack"),
    ]  # fmt: skip
    assert "round 1: site 1 gets a keyframe: disk unreadable" in caplog.text
    assert "site 1 failed: the client refuses a keyframe too: disk unreadable" in caplog.text


def test_a_client_whose_clock_is_ahead_gets_no_keyframe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = ClientLink.open

    def refuse(self: ClientLink, *arguments: Any) -> None:
        if self.site == "1":
            raise StaleError("exchange ff has been seen")
        real(self, *arguments)

    monkeypatch.setattr(ClientLink, "open", refuse)
    folder, rows = run_on(tmp_path, _unchanged)
    assert rounds(folder) == [(3, 1), (3, 1)]
    assert kinds(rows, 1, 1) == [("downlink", "held"), ("uplink", "nack")]
    assert "takes the message for an old one: exchange ff has been seen" in caplog.text


def test_an_update_without_tensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from clients.local import LocalTraining
    from fedcomp.methods import Answer

    fit = LocalTraining.fit

    def idle(self: LocalTraining, work: Any) -> Answer:
        answer = fit(self, work)
        some = {"1.bias": answer.tensors["1.bias"]}  # type: ignore[index]
        return Answer({} if work.client == 1 else some, answer.metrics)

    monkeypatch.setattr(LocalTraining, "fit", idle)
    folder, rows = run_on(tmp_path, _unchanged, "rounds=1")
    assert rounds(folder) == [(3, 1)]
    assert kinds(rows, 1, 1) == [("downlink", "held"), ("uplink", "refused")]
    assert "the reply holds no tensor: nothing was trained" in caplog.text
