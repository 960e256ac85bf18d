from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from fedcomp.codecs.base import Codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.lossless import Lossless
from fedcomp.codecs.nnc import Nnc
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.uniform import Uniform
from fedcomp.link.server import ServerLink
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import MemoryStateStore, StateStore
from fedcomp.tensors import add
from fedcomp.wire.fields import NO_EXCHANGE
from fedcomp.wire.packet import NO_VERSION
from tests.common import equal
from tests.link.common import (
    BIG,
    accept,
    answer,
    big,
    client,
    deliver,
    initial,
    model,
    publish,
    serve,
    session,
    train,
    whole,
)

UP = Nnc(qp=None, step=0.02, temporal=True)
DOWNS = [Uniform(bits=3), Cast(), Cast(mode="absolute"), NoCompression(), Lossless()]


def restarted(server: ServerLink, start: int) -> ServerLink:
    """Return a server that went through a file."""
    arrays, values = server.save()
    twin = ServerLink(server.session, initial(server.session), start)
    twin.load(load(save(arrays)), json.loads(json.dumps(values)))
    return twin


@pytest.mark.parametrize("down", [Cast(), Cast(mode="absolute")])
def test_a_saved_server_goes_on_where_it_was(down: Codec) -> None:
    agreed, store = session(up=Uniform(bits=3), down=down), MemoryStateStore()
    server, link = serve(agreed), client(agreed, store)
    deliver(server, link, 1)
    accept(server, link, answer(link, model(3)), 1)
    server.publish(model(1), 1, ["0"], {"side": np.ones(2, np.float32)})
    twin = restarted(server, start=2)
    for one in (server, twin):
        one.begin()
    assert (twin.version, equal(twin.exact, server.exact)) == (server.version, True)
    for site in "01":
        assert twin.downlink(site)[0].blob == server.downlink(site)[0].blob
        assert twin.downlink(site)[1].used == server.downlink(site)[1].used
    assert server.downlink("0")[1].exchange < twin.downlink("0")[1].exchange


@pytest.mark.parametrize("down", DOWNS, ids=str)
def test_a_restarted_server_says_and_believes_what_the_old_one_did(down: Codec) -> None:
    agreed = session(up=UP, down=down, link=LinkSettings(history_versions=4), manifest=BIG)
    server = serve(agreed)
    stores = {site: MemoryStateStore() for site in "abcd"}
    versions = [server.version]
    for number, joining in enumerate(("abc", "bc", "c", "", "d"), start=1):
        for site in joining:
            link = client(agreed, stores[site], site)
            deliver(server, link, number)
            accept(server, link, train(link, number)[0], number)
        changed = add(server.exact, big(number, 0.05))
        server.publish(changed, number, joining, {"side": np.arange(number)})
        versions.append(server.version)
        server.begin()
    twin = restarted(server, start=2)
    assert equal(twin.public, server.public)
    assert equal(twin.exact, server.exact)
    assert (twin.exact is twin.public) == (server.exact is server.public)
    for held in [*versions, NO_VERSION, b"others"]:
        for side in (True, False):
            ours, theirs = (s.broadcast.message(held, side=side) for s in (server, twin))
            assert ours.blob == theirs.blob
            assert (ours.kind, ours.side_bytes) == (theirs.kind, theirs.side_bytes)
    twin.begin()
    for site in "abcde":
        (ours, our_fields), (theirs, their_fields) = (s.downlink(site) for s in (server, twin))
        assert ours.blob == theirs.blob
        assert our_fields.used == their_fields.used
        assert our_fields.previous == their_fields.previous
        assert (our_fields.previous != NO_EXCHANGE) == (site != "e")
        assert our_fields.exchange < their_fields.exchange


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(1, 5), st.integers(0, 5))
def test_exchanges_grow_over_restarts_whatever_the_clock_does(
    first: int, second: int, before: int, unsaved: int
) -> None:
    agreed = session()
    server = ServerLink(agreed, model(0), first)
    for _ in range(before):
        server.begin()
    twin = restarted(server, second)
    for _ in range(unsaved + 1):  # the old one went on after its last checkpoint
        server.begin()
    twin.begin()
    assert server.downlink("0")[1].exchange < twin.downlink("0")[1].exchange


def test_clients_listen_to_a_restarted_server_whose_clock_went_back(store: StateStore) -> None:
    agreed = session(up=Uniform(bits=3), down=Cast())
    server = serve(agreed, start=100)
    deliver(server, client(agreed, store), 1)
    publish(server, model(1), 1)
    twin = restarted(server, start=7)
    deliver(server, client(agreed, store), 2)
    twin.begin()
    link = client(agreed, store)
    sent, fields = twin.downlink("0")
    link.open(sent.blob, fields, 2)
    assert equal(link.received, twin.public)


def test_contexts_of_the_last_packet_outlive_the_server(store: StateStore) -> None:
    payloads = []
    for temporal in (True, False):
        agreed = session(up=Nnc(qp=None, step=0.02, temporal=temporal), manifest=BIG)
        site = "temporal" if temporal else "plain"
        server = serve(agreed)
        for number in (1, 2):
            link = client(agreed, store, site)
            deliver(server, link, number)
            blob, seen = train(link, number)
            received = accept(server, link, blob, number)
            assert equal(whole(received), seen)
            server.publish(server.exact, number, [site])
            server = restarted(server, start=number + 1)
            server.begin()
        payloads.append(blob[36:])
    assert payloads[0] != payloads[1]
