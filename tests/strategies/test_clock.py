"""The time of exchanges on a simulated network, and what becomes of replies that are late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fedcomp.engines.inline as inline
from fedcomp.link.ledger import Ledger
from fedcomp.network import Network, line
from fedcomp.tensors import Manifest
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
    assert seconds[1] - seconds[0] == pytest.approx(2.2, abs=0.1)


def test_without_a_network_no_time_is_simulated(tmp_path: Path) -> None:
    folder = run_inline(tmp_path, "rounds=1", "method=fedavg")
    assert [row["network_seconds"] for row in read_csv(folder / "rounds.csv")] == ["", ""]
    assert "network_seconds" not in read_summary(folder)


def test_time_to_target_is_that_of_the_first_round_that_reached_it(tmp_path: Path) -> None:
    folder = run_inline(tmp_path, *LINES, "rounds=3", "method=fedavg", "targets=[0.01,1.1]")
    found = read_summary(folder)["seconds_to_target"]
    assert found == {"0.01": 0.0, "1.1": None}


@pytest.mark.parametrize("method", ["fedavg", "stc"])
def test_late_replies_count_as_little_as_in_a_deployment(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same clients, once late on the network and once silent: the same model and bytes."""
    words = (f"method={method}", "clients=5", "rounds=3", "link.verify=true")
    late = run_inline(tmp_path / "late", *LINES, *SLOW, *words)
    settings = Network("custom", stragglers=0.4, straggler_factor=1000.0)
    usual = max(line(settings, 1, str(site)).up for site in range(5))
    slow = {str(site) for site in range(5) if line(settings, 1, str(site)).up < usual}
    assert 0 < len(slow) < 5
    rows = read_csv(late / "packets.csv")
    assert {row["client"] for row in rows if row["kind"] == "late"} == slow
    assert read_summary(late)["failures"] == 3 * len(slow)
    rounds = read_csv(late / "rounds.csv")[1:]
    assert [float(row["network_seconds"]) for row in rounds] == [3.0] * 3

    made = inline._grid

    def silent(*given: Any) -> Any:
        grid = made(*given)
        pull = grid.pull_messages
        grid.pull_messages = lambda wanted: [
            reply
            for reply in pull(wanted)
            if reply.metadata.message_type == "query"
            or str(reply.metadata.src_node_id - 1000) not in slow
        ]
        return grid

    monkeypatch.setattr(inline, "_grid", silent)
    never = run_inline(tmp_path / "never", *words, "engine.round_timeout=0.05")
    model = "model.safetensors"
    assert (late / model).read_bytes() == (never / model).read_bytes()
    columns = ("downlink_bytes", "clients", "failures", "accuracy")
    tables = [[[r[c] for c in columns] for r in read_csv(f / "rounds.csv")] for f in (late, never)]
    assert tables[0] == tables[1]
