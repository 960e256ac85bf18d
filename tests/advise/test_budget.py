"""Sizes as people write them, and lines by hand."""

from __future__ import annotations

import math

import pytest

from fedcomp.advise.budget import Size, carried
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError
from fedcomp.network import Network
from fedcomp.settings import parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200kB", 200_000),
        ("1.5 MB", 1_500_000),
        ("1.5mb", 1_500_000),
        ("64KiB", 65_536),
        ("17B", 17),
        ("1e3B", 1000),
        ("0.5bits", 62),
        ("8x", 500),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert Size.read(text).bytes(1000) == expected


@pytest.mark.parametrize("text", ["", "12", "kB", "1.2.3kB", "0kB", "1e999kB", "5 apples", "-1kB"])
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is no size; give .* kB, MB"):
        Size.read(text)


def test_a_shipped_line_carries_its_rate_less_the_wait() -> None:
    network = parse(compose_config(["network=lan"])).network
    bits = 1e9 * (2 - 0.0002)
    assert carried(network, 2) == round(bits / 8)


def test_a_lossy_line_carries_what_tcp_reaches() -> None:
    network = Network("4g", up_mbps=100, latency_ms=50, loss=0.01)
    slow = 8 * 1460 / 0.1 * math.sqrt(150)
    assert carried(network, 1.05) == round(slow / 8)


@pytest.mark.parametrize("seconds", [-1.0, 0.05, math.nan, math.inf])
def test_too_little_time_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"takes 0\.05 s for any message"):
        carried(Network("4g", latency_ms=50), seconds)


def test_no_network_is_no_line() -> None:
    with pytest.raises(ConfigError, match="choose one of conf/network"):
        carried(Network(), 1)
