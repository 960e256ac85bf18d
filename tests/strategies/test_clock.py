"""The time of exchanges on a simulated network, and what becomes of replies that are late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fedcomp.engines.inline as inline
from fedcomp.link.ledger import Ledger
from fedcomp.network import Network, line
from fedcomp.tensors import Manifest
from fedcomp.wire import keys
from strategies.clock import Clock, Spent
from strategies.exchange import Exchange
from tests.common import read_csv, read_summary, run_inline

LINES = (
    *("network=custom", "network.up_mbps=8", "network.down_mbps=16", "network.latency_ms=100"),
    "network.compute=2.0",
)
SLOW = ("network.stragglers=0.4", "network.straggler_factor=1000", "network.deadline=3")
MB = 1_000_000


def exchange(*spent: Spent) -> Exchange:
    made = Exchange(Ledger(Manifest(())), 1, "train")
    for site, one in enumerate(spent):
        made.spent[str(site)] = one
        made.asked.add(str(site))
    return made


def network(**more: Any) -> Network:
    given = {"up_mbps": 8.0, "down_mbps": 16.0, "latency_ms": 100.0, "compute": 2.0}
    return Network("custom", **given | more)


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({}, 4.2),  # 0.1 + 2 MB / (2 MB/s) + 2 + 0.1 + 1 MB / (1 MB/s)
        ({"compute": "measured"}, 2.7),  # 0.5 s instead of 2
        ({"compute_factor": 3.0}, 8.2),
        ({"server_mbps": 8.0}, 8.2),  # both share 1 MB/s: 0.1 + 4 MB / it + 2 + 0.1 + 2 MB / it
        ({"loss": 0.5, "latency_ms": 0.0}, 6.0),  # half the bandwidth: 2 + 2 + 2
    ],
)
def test_hand_computed_exchanges(more: dict[str, Any], seconds: float) -> None:
    one = Spent(2 * MB, 1 * MB, 0.5)
    pair = exchange(one, Spent(2 * MB, 1 * MB, 0.5))
    clock = Clock(network(**more), seed=1)
    assert clock.arrivals(pair) == pytest.approx({"0": seconds, "1": seconds})
    assert clock.took(pair) == pytest.approx(seconds)


def test_a_deadline_ends_an_exchange_that_lacks_replies() -> None:
    quick, slow = Spent(0, 0, 0.0), Spent(2 * MB, 1 * MB, 0.0)
    clock = Clock(network(deadline=3.0), seed=1)
    assert clock.took(exchange(quick)) == pytest.approx(2.2)
    assert clock.took(exchange(quick, slow)) == 3.0
    assert clock.late(exchange(quick, slow), {}) == pytest.approx({"1": 4.2})
    assert clock.late(exchange(quick), {"0": 1 * MB}) == pytest.approx({"0": 3.2})
    assert clock.took(exchange(quick, Spent(2 * MB))) == 3.0  # no answer at all
    assert Clock(network(), 1).took(exchange(quick, Spent(2 * MB))) == pytest.approx(2.2)


def test_a_round_takes_what_its_messages_take(tmp_path: Path) -> None:
    folder = run_inline(tmp_path, *LINES, "clients=1", "rounds=3", "method=fedavg")
    rows = read_csv(folder / "rounds.csv")
    packets = read_csv(folder / "packets.csv")
    total = 0.0
    for row in rows[1:]:
        sent = {
            direction: sum(
                int(p["message_bytes"])
                for p in packets
                if (p["round"], p["direction"], p["purpose"]) == (row["round"], direction, "train")
            )
            for direction in ("uplink", "downlink")
        }
        seconds = 2.2 + sent["downlink"] / (2 * MB) + sent["uplink"] / MB
        assert float(row["network_seconds"]) == pytest.approx(seconds)
        total += seconds
    summary = read_summary(folder)
    assert summary["network"] == "custom"
    assert summary["network_seconds"] == pytest.approx(total)
    assert set(summary["seconds_to_target"]) == set(summary["bytes_to_target"])


def test_evaluation_at_clients_takes_time_too(tmp_path: Path) -> None:
    seconds = []
    for share in (0.0, 1.0):
        words = (*LINES, "rounds=1", "method=fedavg", f"strategy.fraction_evaluate={share}")
        summary = read_summary(run_inline(tmp_path / str(share), *words))
        seconds.append(summary["network_seconds"])
    assert seconds[1] - seconds[0] == pytest.approx(0.2, abs=0.1)  # no training


def test_without_a_network_no_time_is_simulated(tmp_path: Path) -> None:
    folder = run_inline(tmp_path, "rounds=1", "method=fedavg")
    assert [row["network_seconds"] for row in read_csv(folder / "rounds.csv")] == ["", ""]
    assert "network_seconds" not in read_summary(folder)


def test_time_to_target_is_that_of_the_first_round_that_reached_it(tmp_path: Path) -> None:
    folder = run_inline(tmp_path, *LINES, "rounds=3", "method=fedavg", "targets=[0.01,1.1]")
    found = read_summary(folder)["seconds_to_target"]
    assert found == {"0.01": 0.0, "1.1": None}


@pytest.mark.parametrize("method", ["fedavg", "stc"])
@pytest.mark.parametrize("rounds", [{1, 2, 3}, {2}])
def test_late_replies_count_as_little_as_in_a_deployment(
    method: str, rounds: set[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same clients, once late on the network and once silent: the same model and bytes.

    Where they are late in the second round alone, what they trained then comes in the third.
    """
    slow = {"1", "3"}
    words = (f"method={method}", "clients=5", "rounds=3", "link.verify=true")

    def late(clock: Clock, exchange: Exchange, more: Any) -> dict[str, float]:
        return dict.fromkeys(slow, 9.0) if exchange.round in rounds else {}

    with monkeypatch.context() as patch:
        patch.setattr(Clock, "late", late)
        late_run = run_inline(tmp_path / "late", *LINES, "network.deadline=3", *words)
    rows = read_csv(late_run / "packets.csv")
    assert {row["client"] for row in rows if row["kind"] == "late"} == slow
    assert read_summary(late_run)["failures"] == len(rounds) * len(slow)

    made = inline._grid

    def silent(*given: Any) -> Any:
        grid = made(*given)
        push, pull = grid.push_messages, grid.pull_messages
        lost = set[str]()

        def pushed(messages: Any) -> list[str]:
            names = []
            for message in messages:
                site = str(message.metadata.dst_node_id - 1000)
                fields = message.content.config_records.get(keys.FIELDS, {})
                (name,) = push([message])
                if site in slow and fields.get(keys.ROUND_FIELD) in rounds:
                    lost.add(name)
                names.append(name)
            return names

        grid.push_messages = pushed
        grid.pull_messages = lambda wanted: pull([name for name in wanted if name not in lost])
        return grid

    monkeypatch.setattr(inline, "_grid", silent)
    never = run_inline(tmp_path / "never", *words, "engine.round_timeout=0.05")
    model = "model.safetensors"
    assert (late_run / model).read_bytes() == (never / model).read_bytes()
    columns = ("downlink_bytes", "clients", "failures", "accuracy")
    tables = [
        [[r[c] for c in columns] for r in read_csv(f / "rounds.csv")] for f in (late_run, never)
    ]
    assert tables[0] == tables[1]


def test_stragglers_are_late(tmp_path: Path) -> None:
    run = run_inline(tmp_path, *LINES, *SLOW, "method=fedavg", "clients=5", "rounds=2")
    settings = Network("custom", stragglers=0.4, straggler_factor=1000.0)
    usual = max(line(settings, 1, str(site)).up for site in range(5))
    slow = {str(site) for site in range(5) if line(settings, 1, str(site)).up < usual}
    assert 0 < len(slow) < 5
    rows = read_csv(run / "packets.csv")
    assert {row["client"] for row in rows if row["kind"] == "late"} == slow
    assert [row["network_seconds"] for row in read_csv(run / "rounds.csv")[1:]] == ["3.0", "3.0"]
