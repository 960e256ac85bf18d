from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.codecs.nnc import Nnc
from fedcomp.codecs.powersgd import PowerSgd
from fedcomp.errors import BitstreamError
from fedcomp.link.file_store import FileStateStore
from fedcomp.link.previous import SentSymbols, pack_alone
from fedcomp.link.server import ServerLink
from fedcomp.link.session import Session
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import MemoryStateStore, StateStore
from fedcomp.wire.fields import NO_EXCHANGE
from fedcomp.wire.packet import read_chain
from tests.common import equal
from tests.link.common import (
    BIG,
    accept,
    big,
    client,
    deliver,
    publish,
    serve,
    session,
    train,
    whole,
)


def agreed(temporal: bool = True, most_bytes: int = 10**6) -> Session:
    up = Nnc(qp=None, step=0.02, temporal=temporal)
    return session(up=up, link=LinkSettings(history_bytes=most_bytes), manifest=BIG)


def round_of(
    server: ServerLink, store: StateStore, number: int, *, used: bool = True
) -> tuple[bytes, bytes]:
    """Let a client train; return its payload and the exchange that it refers to."""
    link = client(server.session, store)
    deliver(server, link, number)
    blob, seen = train(link, number)
    received = accept(server, link, blob, number)
    assert equal(whole(received), seen)
    publish(server, server.exact, number, *(["0"] if used else []))
    return read_chain(blob)[0].payload, link.reply_fields().previous


def test_packets_refer_to_the_last_one_that_was_used(store: StateStore) -> None:
    server, plain, plain_store = serve(agreed()), serve(agreed(temporal=False)), MemoryStateStore()
    last = NO_EXCHANGE
    for number, used in enumerate((True, True, False, True), start=1):
        exchange = server.downlink("0")[1].exchange
        payload, refers = round_of(server, store, number, used=used)
        without, nothing = round_of(plain, plain_store, number, used=used)
        assert (refers, nothing) == (last, NO_EXCHANGE)
        assert (payload == without) == (number == 1)
        last = exchange if used else last


def test_a_repeated_answer_refers_to_the_same_symbols(store: StateStore) -> None:
    server = serve(agreed())
    round_of(server, store, 1)
    sent, fields = server.downlink("0")
    link = client(server.session, store)
    link.open(sent.blob, fields, 2)
    _, seen = train(link, 2)
    again = client(server.session, store)
    again.open(sent.blob, fields, 2)
    assert again.answered is not None
    assert again.reply_fields().previous == link.reply_fields().previous != NO_EXCHANGE
    assert equal(whole(accept(server, again, again.answered.blob, 2)), seen)
    publish(server, server.exact, 2, "0")
    round_of(server, store, 3)


def test_a_packet_is_not_read_with_other_symbols() -> None:
    server, store = serve(agreed()), MemoryStateStore()
    round_of(server, store, 1)
    round_of(server, store, 2)
    link = client(server.session, store)
    deliver(server, link, 3)
    blob, _ = train(link, 3)
    claims = link.reply_fields()
    wrong = type(claims)(claims.exchange, claims.version, bytes(11) + b"1", claims.digest)
    with pytest.raises(BitstreamError, match="which are not here"):
        server.uplink("0", blob, wrong, 3)


def test_who_is_told_that_symbols_are_gone_refers_to_nothing(store: StateStore) -> None:
    server = serve(agreed(most_bytes=0))
    for number in (1, 2, 3):
        assert round_of(server, store, number)[1] == NO_EXCHANGE


def test_a_client_without_its_state_refers_to_nothing() -> None:
    server = serve(agreed())
    round_of(server, MemoryStateStore(), 1)
    assert server.downlink("0")[1].previous != NO_EXCHANGE
    assert round_of(server, MemoryStateStore(), 2)[1] == NO_EXCHANGE


def test_symbols_lie_in_the_state_until_the_next_ones_are_used(tmp_path: Path) -> None:
    server, store = serve(agreed()), FileStateStore(tmp_path)
    first = server.downlink("0")[1].exchange
    round_of(server, store, 1)
    round_of(server, store, 2, used=False)
    found = store.load("0")
    assert found is not None
    assert found.previous.exchange == first
    assert found.pending is not None
    assert found.pending.symbols != found.previous.payload != b""


def symbols(seed: int, share: float) -> Any:
    values = big(seed)["w"] * (np.random.default_rng(seed).random((30, 40)) < share)
    of = agreed()
    return of.uplink.quantise({"w": values.astype(np.float32)}, of.context("uplink", 0, {}))


SYMBOLS = [symbols(seed, seed / 8) for seed in range(8)]
PACKED = [pack_alone(one, agreed(), 3) for one in SYMBOLS]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 7))), st.integers(0, 6000))
def test_what_was_unused_for_longest_goes_first_and_no_byte_is_counted_twice(
    kept: list[tuple[str, int]], most: int
) -> None:
    of, found = agreed(), SentSymbols(most)
    expected: OrderedDict[str, tuple[bytes, int]] = OrderedDict()
    for number, (site, which) in enumerate(kept, start=1):
        exchange = number.to_bytes(12)
        if number == len(kept) // 2:
            arrays, exchanges = found.save()
            found = SentSymbols(most)
            found.load({f"previous.{s}": data for s, data in arrays.items()}, exchanges)
        reply: Any = SimpleNamespace(unpack=lambda which=which: SYMBOLS[which], round=3)
        found.keep(site, exchange, reply, of)
        expected.pop(site, None)
        expected[site] = exchange, which
        while sum(len(PACKED[one]) for _, one in expected.values()) > most:
            expected.popitem(last=False)
        for other in "abcd":
            name, _ = expected.get(other, (NO_EXCHANGE, 0))
            assert found.exchange(other) == name
    for site, (exchange, which) in expected.items():
        lazy = found.symbols(site, exchange, of)
        assert lazy is not None
        assert pack_alone(dict(lazy), of, 3) == PACKED[which]


def test_codecs_that_refer_to_nothing_keep_nothing() -> None:
    of, found = agreed(temporal=False), SentSymbols(10**6)
    found.keep("a", b"1" * 12, SimpleNamespace(), of)  # type: ignore[arg-type]
    assert found.exchange("a") == NO_EXCHANGE
    assert found.save() == ({}, {})


def test_what_the_sender_alone_looks_at_is_kept_by_the_sender_alone(store: StateStore) -> None:
    of = session(up=PowerSgd(rank=1), manifest=BIG)
    server = serve(of)
    started = []
    for number in (1, 2, 3):
        _, refers = round_of(server, store, number, used=number != 2)
        assert refers == server.downlink("0")[1].previous == NO_EXCHANGE
        link = client(of, store)
        deliver(server, link, number + 1)
        started.append(link._previous is not None)
    assert started == [True, True, True]
    assert server.save()[1]["previous"] == {}
