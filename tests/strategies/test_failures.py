"""Which failures are counted, what is said of them, and what a round does about them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

import strategies.grid as grid_module
from fedcomp.errors import RoundError, StorageError
from fedcomp.link import part_files
from fedcomp.link.file_store import FileStateStore
from fedcomp.link.ledger import Ledger
from fedcomp.report.observer import Observer
from fedcomp.tensors import Manifest
from strategies.exchange import MOST_REPEATED, MOST_SHOWN, Exchange
from tests.common import read_csv, read_summary, run_inline
from tests.engines.soak import Account, Clock
from tests.strategies.common import rounds, run_on


def away(*nodes: int, after: int = 0) -> Any:
    """Let nodes leave once each client has answered so many training messages."""

    def misbehave(grid: Any) -> None:
        everybody, push, sent = grid.get_node_ids, grid.push_messages, [0]

        def watched(messages: Any) -> Any:
            sent[0] += messages[0].metadata.message_type == "train"
            return push(messages)

        def there() -> list[int]:
            gone = nodes if sent[0] >= 4 * after and sent[0] else ()
            return [node for node in everybody() if node not in gone]

        grid.push_messages, grid.get_node_ids = watched, there

    return misbehave


def test_the_round_that_ends_the_run_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clients.local import LocalTraining

    fit = LocalTraining.fit

    def broken(self: LocalTraining, work: Any) -> Any:
        if work.round == 1 and work.client == 3:
            raise ValueError("no disk")
        if work.round == 2:
            raise ValueError("out of memory")
        return fit(self, work)

    monkeypatch.setattr(LocalTraining, "fit", broken)
    with pytest.raises(RoundError, match="round 2: 0 valid replies"):
        run_inline(tmp_path)
    summary = read_summary(tmp_path)
    assert (summary["rounds"], summary["failures"], summary["status"]) == (1, 1 + 4, "stopped")
    errors = [row for row in read_csv(tmp_path / "packets.csv") if row["kind"] == "error"]
    assert [row["round"] for row in errors] == ["1", *"2222"]


def test_clients_that_are_not_connected_are_failures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, rows = run_on(tmp_path, away(1001, 1003, after=1), "rounds=3")
    assert rounds(folder) == [(4, 0), (2, 2), (2, 2)]
    assert read_summary(folder)["failures"] == 4
    assert "round 2: site 3 failed: its node is not connected" in caplog.text
    assert {row["client"] for row in rows if row["round"] == "3"} == {"0", "2"}


def test_clients_that_nobody_would_have_asked_are_none(tmp_path: Path) -> None:
    folder, _ = run_on(tmp_path, away(1001, after=1), "rounds=3", "fraction=0.5")
    asked = [clients + failures for clients, failures in rounds(folder)]
    assert asked == [2, 2, 2]


def test_a_strategy_does_not_wait_for_clients_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(grid_module, "time", clock)
    monkeypatch.setattr("flwr.serverapp.strategy.strategy_utils.sleep", clock.sleep)
    expected = r"round 2: the strategy has waited .* engine\.round_timeout=30, and 0 of 4 are"
    with pytest.raises(RoundError, match=expected):
        run_on(tmp_path, away(*range(1000, 1004), after=1), "engine.round_timeout=30")
    assert 30 < clock.monotonic() < 40
    assert read_summary(tmp_path)["rounds"] == 1


def test_a_strategy_may_wait_for_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(grid_module, "time", clock)
    monkeypatch.setattr("flwr.serverapp.strategy.strategy_utils.sleep", clock.sleep)

    def misbehave(grid: Any) -> None:
        everybody = grid.get_node_ids
        grid.get_node_ids = lambda: everybody() if not 1 <= clock.monotonic() < 20 else []
        pull = grid.pull_messages

        def pulled(wanted: Any) -> Any:
            found = pull(wanted)
            if any(message.metadata.message_type == "train" for message in found):
                clock.sleep(1)
            return found

        grid.pull_messages = pulled

    folder, _ = run_on(tmp_path, misbehave, "engine.round_timeout=30")
    assert rounds(folder) == [(4, 0), (1, 0)]  # Flower counts them before it waits for one
    assert clock.monotonic() > 20


def test_long_and_odd_reasons_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange(Ledger(Manifest(())), 1, "train")
    with caplog.at_level(logging.WARNING):
        exchange.fail("1", "x" * 10**6 + "\x1b[2J\x07\r\n\u202eevil\n")
        exchange.fail("2", "first\n" + "y" * 10**6)
        exchange.fail("2", "again")
    assert exchange.ledger.failures == 2
    assert exchange.failures["2"] == "again"
    assert all(len(m) < MOST_SHOWN + 100 and m.isprintable() is False for m in caplog.messages[:1])
    text = "".join(caplog.messages)
    assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}
    exchange.fail("3", "z" * 10**6)
    assert len(exchange.failures["3"]) == MOST_REPEATED


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def too_full(*_: object, **__: object) -> None:
    raise SafetensorError("Error while serializing: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [(part_files, "save_file", too_full), (Path, "write_bytes", full), (Path, "write_text", full)],
)
def test_a_client_whose_state_cannot_be_written_is_one_failure(
    owner: Any, name: str, error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is full in round 2; before and after it takes part, and nothing is counted twice."""
    account = Account()
    account.store = FileStateStore(tmp_path / "state")
    account.install(monkeypatch)
    real = getattr(owner, name)
    number = [0]

    def write(*arguments: Any, **options: Any) -> Any:
        place = next(a for a in arguments if isinstance(a, Path))
        mine = place.is_relative_to(tmp_path / "state" / "sites" / "2")
        return error() if mine and number[0] == 2 else real(*arguments, **options)

    monkeypatch.setattr(owner, name, write)

    def misbehave(grid: Any) -> None:
        push = grid.push_messages

        def watched(messages: Any) -> Any:
            fields = messages[0].content.config_records.get("fc")
            number[0] = fields.get("r", 0) if fields else 0
            return push(messages)

        grid.push_messages = watched

    words = ("codec@uplink=topk", "uplink.density=0.1", "codec@downlink=topk", "rounds=4")
    folder, rows = run_on(tmp_path / "run", misbehave, *words)
    assert rounds(folder) == [(4, 0), (3, 1), (4, 0), (4, 0)]
    assert account.gap() < 1e-5
    assert not list((tmp_path / "state").rglob("*.tmp"))
    kept = {p.name for p in (tmp_path / "state" / "sites" / "2").iterdir()}
    assert len(kept) <= 5  # nothing is left of what was half written
    assert [r["kind"] for r in rows if (r["client"], r["round"]) == ("2", "2")][-1] == "error"


@pytest.mark.parametrize("error", [full, too_full])
@pytest.mark.parametrize("call", ["on_round", "on_end"])
def test_what_cannot_be_written_ends_the_run_with_the_reason(
    call: str, error: Any, tmp_path: Path
) -> None:
    calls: list[str] = []

    class Full:
        def __getattr__(self, name: str) -> Any:
            def told(*_: Any) -> None:
                calls.append(name)
                if name == call and len(calls) > 2:
                    error()

            return told

    with pytest.raises(StorageError, match=r"No space left on device.*hydra\.run\.dir"):
        run_inline(tmp_path, observers=[Full()])
    assert calls[-1] == "on_end"
    assert (tmp_path / "model.safetensors").is_file()


def test_why_a_run_ends_is_said_before_what_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from clients.local import LocalTraining

    class Full(Observer):
        def on_end(self, model: Any) -> None:
            full()

    monkeypatch.setattr(LocalTraining, "fit", full)
    with pytest.raises(RoundError, match="round 1: 0 valid replies"):
        run_inline(tmp_path, observers=[Full()])
    assert "its files cannot be written" in caplog.text
