"""Sizes as people write them, and lines by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fedcomp.advise.budget import MESSAGE_BYTES, Size, carried
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError
from fedcomp.network import Network
from fedcomp.settings import parse
from tests.common import read_csv, run_inline


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200kB", 200_000),
        ("1.5 MB", 1_500_000),
        ("1.5mB", 1_500_000),
        ("64KiB", 65_536),
        ("17B", 17),
        ("1e3B", 1000),
        ("0.5bits", 62),
        ("8x", 500),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert Size.read(text).bytes(1000) == expected


@pytest.mark.parametrize(
    "text", ["", "12", "kB", "1.2.3kB", "0kB", "1e999kB", "5 apples", "-1kB", "1Mb"]
)
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no size; give .* kB, MB"):
        Size.read(text)


def test_a_shipped_line_carries_its_rate_less_the_wait() -> None:
    network = parse(compose_config(["network=lan"])).network
    bits = 1e9 * (2 - 0.0002)
    assert carried(network, 2) == round(bits / 8) - MESSAGE_BYTES


def test_a_lossy_line_carries_what_tcp_reaches() -> None:
    network = Network("4g", up_mbps=100, latency_ms=50, loss=0.01)
    slow = 8 * 1460 / 0.1 * math.sqrt(150)
    assert carried(network, 1.05) == round(slow / 8) - MESSAGE_BYTES


@pytest.mark.parametrize("seconds", [-1.0, 0.05, 0.0501])
def test_too_little_time_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"carries no packet .* 0\.05 s are latency"):
        carried(Network("4g", latency_ms=50), seconds)


@pytest.mark.parametrize("seconds", [math.nan, math.inf])
def test_what_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="is no time"):
        carried(Network("4g", latency_ms=50), seconds)


def test_less_than_a_byte_is_refused() -> None:
    with pytest.raises(ConfigError, match="less than a byte"):
        Size.read("1e-9B").bytes(1000)


def test_a_message_is_about_so_much_longer_than_its_packet(tmp_path: Path) -> None:
    folder = run_inline(tmp_path, "rounds=1", "clients=2", "method=stc")
    rows = [row for row in read_csv(folder / "packets.csv") if row["direction"] == "uplink"]
    around = [int(row["message_bytes"]) - int(row["packet_bytes"]) for row in rows]
    assert 0.8 * MESSAGE_BYTES < max(around) <= 1.1 * MESSAGE_BYTES


def test_no_network_is_no_line() -> None:
    with pytest.raises(ConfigError, match="choose one of conf/network"):
        carried(Network(), 1)
