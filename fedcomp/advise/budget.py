"""What one packet may weigh: bytes, bits a weight, a ratio, or what a line carries in some time."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from fedcomp.errors import ConfigError
from fedcomp.network import rate

if TYPE_CHECKING:
    from fedcomp.network import Network

_FACTORS = {
    "B": 1.0,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
}
_BITS, _RATIO = "bits", "x"
MESSAGE_BYTES = 350
"""About what a message of Flower's has around a packet."""

UNITS = (*_FACTORS, _BITS, _RATIO)
_BIT = re.compile("[A-Za-z]+b")
"""1Mb is a megabit to most people."""

_SIZE = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]+)\s*", re.IGNORECASE)


class Size(NamedTuple):
    """A number and its unit: `bits` are those a weight, `x` is how many times fewer than float32.

    Examples
    --------
    >>> Size.read("200kB"), Size.read("0.5 bits").bytes(1000), Size.read("32x").bytes(1000)
    (Size(number=200.0, unit='kB'), 62, 125)
    """

    number: float
    unit: str

    @classmethod
    def read(cls, text: str) -> Size:
        """Read a size as it is written; `ConfigError` says what is allowed."""
        found = _SIZE.fullmatch(text)
        units = {unit.lower(): unit for unit in UNITS}
        unit = units.get(found[2].lower()) if found and not _BIT.fullmatch(found[2]) else None
        try:
            number = float(found[1]) if found else 0.0
        except ValueError:
            number = 0.0
        if unit is None or not 0 < number < math.inf:
            msg = (
                f"--budget {text}: is no size; give a number above 0 and a unit of"
                f" {', '.join(UNITS)}, such as 200kB, 0.5bits (a weight) or 50x (below float32)"
            )
            raise ConfigError(msg)
        return cls(number, unit)

    def bytes(self, elements: int) -> int:
        """Return how many bytes that are for a model of so many elements."""
        if self.unit == _BITS:
            found = int(self.number * elements / 8)
        elif self.unit == _RATIO:
            found = int(4 * elements / self.number)
        else:
            found = int(self.number * _FACTORS[self.unit])
        if found < 1:
            msg = f"--budget {self.number:g}{self.unit}: is less than a byte; give more"
            raise ConfigError(msg)
        return found


def carried(network: Network, seconds: float) -> int:
    """Return the bytes of a packet that the median client's line carries up in so many seconds.

    Examples
    --------
    >>> from fedcomp.network import Network
    >>> carried(Network("4g", up_mbps=8, latency_ms=40, jitter_ms=10), 2.05)
    1999650
    """
    if not network.is_simulated:
        msg = f"--network {network.name}: is no line; choose one of conf/network, such as 4g"
        raise ConfigError(msg)
    wait = (network.latency_ms + network.jitter_ms) / 1e3
    if not math.isfinite(seconds):
        msg = f"--seconds {seconds:g}: is no time; give a number of seconds"
        raise ConfigError(msg)
    bits = rate(network, network.up_mbps) * (seconds - wait)
    found = round(bits / 8) - MESSAGE_BYTES
    if found < 1:
        msg = (
            f"--seconds {seconds:g}: a line of network={network.name} carries no packet in that"
            f" time: {wait:g} s are latency and mean jitter, and {MESSAGE_BYTES} bytes are around"
            " any packet; give a longer time"
        )
        raise ConfigError(msg)
    return found
