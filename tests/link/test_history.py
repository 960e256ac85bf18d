from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fedcomp.codecs.uniform import Uniform
from fedcomp.link.history import History, cost
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import MemoryStateStore
from fedcomp.tensors import add
from fedcomp.wire.packet import HEADER_BYTES, Packet
from tests.common import equal
from tests.link.common import BIG, big, client, deliver, publish, serve, session

SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=12)
VERSIONS = st.lists(st.integers(0, 4), min_size=1, max_size=12)


def deltas(sizes: list[int], versions: list[int]) -> list[Packet]:
    """Return consecutive packets of these sizes; versions may come back."""
    names = [bytes([1 + versions[i % len(versions)]] * 6) for i in range(len(sizes) + 1)]
    return [
        Packet(b"code", b"sess", i, bytes(size), names[i], names[i + 1])
        for i, size in enumerate(sizes)
    ]


@given(SIZES, VERSIONS, st.integers(0, 400), st.integers(1, 8))
def test_the_longest_end_within_both_bounds_is_kept_and_the_newest_always(
    sizes: list[int], versions: list[int], most_bytes: int, most: int
) -> None:
    history, all_packets = History(most_bytes, most), deltas(sizes, versions)
    for number, packet in enumerate(all_packets, start=1):
        history.append(packet)
        ends = [all_packets[start:number] for start in range(number)]
        fits = [end for end in ends if len(end) <= most and cost(end) <= most_bytes]
        assert history.packets == (fits[0] if fits else [packet])


@given(SIZES, VERSIONS, st.integers(0, 5))
def test_since_is_the_nearest_occurrence(
    sizes: list[int], versions: list[int], wanted: int
) -> None:
    history, version = History(10**9, 100), bytes([1 + wanted] * 6)
    for packet in deltas(sizes, versions):
        history.append(packet)
    start = history.since(version)
    bases = [packet.base for packet in history.packets]
    if start is None:
        assert version not in bases
    else:
        assert bases[start] == version
        assert version not in bases[start + 1 :]


def test_the_cost_is_that_of_the_chain() -> None:
    packets = deltas([0, 7, 60], [1, 2])
    assert cost(packets) == sum(len(packet.to_bytes()) for packet in packets)
    assert cost(packets[:1]) == HEADER_BYTES


@given(st.integers(0, 3000), st.integers(1, 2))
def test_who_is_one_version_behind_gets_a_delta_however_small_the_bounds(
    most_bytes: int, most: int
) -> None:
    link = LinkSettings(history_bytes=most_bytes, history_versions=most)
    agreed = session(down=Uniform(bits=2), link=link, manifest=BIG)
    server, store = serve(agreed), MemoryStateStore()
    for number in range(1, 4):
        publish(server, add(server.exact, big(number, 0.1)), number)
        follower = client(agreed, store)
        assert deliver(server, follower, number).kind == "delta"
        assert equal(follower.received, server.public)
