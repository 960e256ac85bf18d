from __future__ import annotations

import time

import numpy as np
import pytest

from fedcomp.codecs.base import Codec, Context, Symbols
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import LinkError
from fedcomp.link.server import ServerLink
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import MemoryStateStore
from fedcomp.tensors import Tensors, add, version_of
from fedcomp.wire.packet import HEADER_BYTES, NO_VERSION, read_chain
from tests.common import equal
from tests.link.common import BIG, big, client, deliver, model, publish, serve, session


def test_each_client_gets_the_cheapest_packets_that_it_can_use() -> None:
    agreed = session(down=Uniform(bits=2))
    server, store = serve(agreed), MemoryStateStore()
    link = client(agreed, store)
    sent = deliver(server, link, 1)
    assert (sent.kind, len(sent.blob)) == ("held", HEADER_BYTES)
    publish(server, model(1), 1)
    first = deliver(server, link, 2)
    assert first.kind == "delta"
    assert deliver(server, link, 2).kind == "held"
    for number in (2, 3):
        publish(server, model(number), number)
    twice, _ = server.downlink("0")
    three, _ = server.downlink("1")
    keyframe = HEADER_BYTES + 1 + sum(value.nbytes for value in model(0).values())
    assert [p.round for p in read_chain(twice.blob)] == ([2, 3] if twice.kind == "chain" else [3])
    assert len(twice.blob) <= keyframe
    assert len(three.blob) <= keyframe
    server.forget("0")
    again = deliver(server, client(agreed, MemoryStateStore()), 4)
    assert (again.kind, len(again.blob)) == ("keyframe", keyframe)


def test_chains_are_bounded_and_encoded_once_for_all_who_hold_the_same() -> None:
    link = LinkSettings(history_versions=3)
    server = serve(session(down=Uniform(bits=2), link=link, manifest=BIG))
    kinds = []
    for number in range(1, 6):
        publish(server, add(server.exact, big(number, 0.1)), number)
        kinds.append(server.downlink("late")[0].kind)
    assert kinds == ["delta", "chain", "chain", "keyframe", "keyframe"]
    assert server.downlink("a")[0].blob is server.downlink("b")[0].blob


def test_who_refused_a_lossy_packet_gets_a_keyframe_in_every_mode() -> None:
    server = serve(session(down=Cast(mode="absolute")))
    publish(server, model(1), 1)
    assert server.downlink("0")[0].kind == "absolute"
    server.forget("0")
    assert server.downlink("0")[0].kind == "keyframe"


@pytest.fixture
def keyframes(monkeypatch: pytest.MonkeyPatch) -> list[Tensors]:
    """Note the models that keyframes are made of."""
    made: list[Tensors] = []

    def encode(codec: Codec, tensors: Tensors, context: Context) -> bytes:
        made.append(tensors)
        return Codec.encode(codec, tensors, context)

    monkeypatch.setattr(NoCompression, "encode", encode)
    return made


def many_versions(versions: int, kept: int = 100, mode: str = "delta") -> ServerLink:
    link = LinkSettings(history_versions=kept)
    down = Uniform(bits=2) if mode == "delta" else Cast(mode="absolute")
    server = serve(session(down=down, link=link, manifest=BIG))
    for number in range(1, versions + 1):
        side = {"levels": np.arange(number)}
        server.publish(add(server.exact, big(number, 0.1)), number, [], side)
    return server


def test_one_keyframe_serves_all_outdated_versions(keyframes: list[Tensors]) -> None:
    server = many_versions(6, kept=2)
    claims = [NO_VERSION, version_of(big(0)), *(bytes([i] * 6) for i in range(1, 30))]
    sent = [server.broadcast.message(held, side=True) for held in claims]
    assert {one.kind for one in sent} == {"keyframe"}
    assert len({id(one.blob) for one in sent}) == 1
    assert len(keyframes) == 1
    publish(server, add(server.exact, big(7, 0.1)), 7)
    assert server.broadcast.message(NO_VERSION, side=True).blob != sent[0].blob
    assert len(keyframes) == 2


def test_each_route_is_one_message_with_side_information_once() -> None:
    server = many_versions(5)
    history = server.broadcast.history.packets
    routes = [*(packet.base for packet in history), server.version, NO_VERSION]
    blobs = set()
    for index, held in enumerate(routes):
        for side in (True, False):
            sent = [server.broadcast.message(held, side=side) for _ in range(3)]
            assert len({id(one.blob) for one in sent}) == 1
            packets = read_chain(sent[0].blob)
            sides = [packet.side for packet in packets]
            assert sides[:-1] == [b""] * (len(packets) - 1)
            assert len(sides[-1]) == sent[0].side_bytes
            assert bool(sides[-1]) == side
            if index < len(history):
                assert [packet.payload for packet in packets] == [
                    packet.payload for packet in history[index:]
                ]
            blobs.add(sent[0].blob)
    assert len(blobs) == 2 * len(routes)


def test_the_time_of_a_version_goes_to_its_first_message_and_to_no_keyframe() -> None:
    for mode in ("delta", "absolute"):
        server = many_versions(1, mode=mode)
        server.broadcast.spent(1000.0)
        held = version_of(big(0))

        def seconds(held: bytes, side: bool, server: ServerLink = server) -> float:
            return server.broadcast.message(held, side=side).seconds

        assert seconds(NO_VERSION, side=True) < 500
        assert seconds(server.version, side=True) < 500
        assert 1000 <= seconds(held, side=True) < 1500
        assert seconds(held, side=True) == 0
        assert 0 < seconds(held, side=False) < 500


class Slow(Cast):
    """Takes its time."""

    def pack(self, symbols: Symbols, context: Context) -> bytes:
        time.sleep(0.05)
        return super().pack(symbols, context)


def test_publishing_is_timed() -> None:
    server = serve(session(down=Slow()))
    publish(server, model(1), 1)
    sent = [server.downlink(site)[0].seconds for site in "ab"]
    assert sent[0] >= 0.05 > sent[1]


def test_a_version_that_brings_nothing_new_is_no_link_of_a_chain() -> None:
    server = serve(session(down=Uniform(bits=8), manifest=BIG))
    publish(server, big(1), 1)
    publish(server, server.public, 2)
    assert server.exact is server.public
    before = list(server.broadcast.history.packets)
    publish(server, server.exact, 3)
    assert server.broadcast.history.packets == before
    assert server.broadcast.message(before[-1].base, side=True).kind == "delta"


class Sparing(Cast):
    """Leaves out what the receiver has already."""

    def quantise(self, tensors: Tensors, context: Context) -> Symbols:
        known = context.reference or {}
        return super().quantise(
            {n: v for n, v in tensors.items() if n not in known or (known[n] != v).any()}, context
        )


def test_absolute_packets_refer_to_nothing() -> None:
    agreed = session(down=Sparing(mode="absolute"))
    server = serve(agreed)
    publish(server, model(0) | {"b": np.array(2, np.float32)}, 1)
    publish(server, model(1) | {"b": np.array(2, np.float32)}, 2)
    for held in (version_of(model(0)), b"others"):
        assert server.broadcast.message(held, side=True).kind == "absolute"
    link = client(agreed, MemoryStateStore())
    deliver(server, link, 3)
    assert equal(link.received, server.public)


def test_in_absolute_mode_a_lost_state_costs_the_newest_packet_and_a_refusal_a_keyframe(
    keyframes: list[Tensors],
) -> None:
    agreed = session(down=Cast(mode="absolute"))
    server, store = serve(agreed), MemoryStateStore()
    publish(server, model(1), 1)
    assert deliver(server, client(agreed, store), 2).kind == "absolute"
    server.begin()
    fresh = client(agreed, MemoryStateStore())
    with pytest.raises(LinkError, match="lacks version"):
        deliver(server, fresh, 2)
    server.forget("0")
    assert deliver(server, fresh, 2).kind == "absolute"
    assert equal(fresh.received, server.public)
    assert keyframes == []
    for kind in ("held", "absolute", "keyframe", "keyframe"):
        assert server.downlink("0")[0].kind == kind
        server.forget("0")
    last = client(agreed, MemoryStateStore())
    assert deliver(server, last, 2).kind == "keyframe"
    assert equal(last.received, server.public)
    assert server.downlink("0")[0].kind == "held"
