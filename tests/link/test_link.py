from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.codecs.base import Codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.masked import MaskedCodec
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import DivergedError, LinkError
from fedcomp.link.settings import LinkSettings
from fedcomp.link.state import ClientState
from fedcomp.link.stores import MemoryStateStore
from fedcomp.link.update import Update
from fedcomp.tensors import add, subtract, version_of
from fedcomp.wire.packet import HEADER_BYTES, NO_VERSION, Flag, Packet, read_chain
from tests.common import equal
from tests.link.common import (
    accept,
    answer,
    client,
    deliver,
    model,
    publish,
    serve,
    session,
    whole,
)

CODECS = [
    NoCompression(),
    Cast(),
    Cast(mode="absolute", dtype="bf16"),
    Uniform(bits=4),
    MaskedCodec(),
]


@pytest.mark.parametrize("down", CODECS, ids=str)
def test_clients_hold_the_public_model_to_the_bit(down: Codec) -> None:
    agreed = session(down=down)
    server, stores = serve(agreed), [MemoryStateStore() for _ in range(3)]
    rng = np.random.default_rng(0)
    for number in range(1, 12):
        for site, store in enumerate(stores):
            if rng.random() < 0.6:  # the others miss this round
                link = client(agreed, store, str(site))
                deliver(server, link, number)
                assert equal(link.received, server.public)
        publish(server, add(server.exact, subtract(model(number), model(number - 1))), number)


def test_what_a_downlink_loses_travels_with_the_next_version() -> None:
    server = serve(session(down=Cast(dtype="bf16")))
    target = model(1)
    errors = []
    for number in range(1, 6):
        publish(server, target, number)
        errors.append(float(np.abs(server.exact["w"] - server.public["w"]).max()))
    assert errors[0] > 1e-4
    assert errors[-1] < 1e-7


def test_a_receiver_skips_what_it_has() -> None:
    agreed = session(down=Cast())
    server, store = serve(agreed), MemoryStateStore()
    publish(server, model(1), 1)
    link = client(agreed, store)
    deliver(server, link, 2)
    publish(server, model(2), 2)
    history = server.broadcast.history
    assert history.since(version_of(model(0))) == 0
    _, fields = server.downlink("0")
    link.open(b"".join(packet.to_bytes() for packet in history.packets), fields, 3)
    assert equal(link.received, server.public)


def test_a_client_without_the_version_says_so() -> None:
    agreed = session(down=Cast())
    server = serve(agreed)
    other = client(agreed, MemoryStateStore(), start=7)  # another initial model
    with pytest.raises(LinkError, match="holds nothing and lacks version"):
        deliver(server, other, 1)
    publish(server, model(1), 1)
    with pytest.raises(LinkError, match="lacks version"):
        deliver(server, other, 2)
    server.forget("0")
    deliver(server, other, 2)
    assert equal(other.received, server.public)


@settings(deadline=None)
@given(st.sampled_from(CODECS), st.sampled_from(CODECS), st.integers(0, 99))
def test_the_server_sees_exact_model_plus_the_clients_change(
    up: Codec, down: Codec, seed: int
) -> None:
    agreed = session(up, down)
    server = serve(agreed)
    publish(server, model(1), 1)
    link = client(agreed, MemoryStateStore())
    deliver(server, link, 2)
    trained = add(link.received, subtract(model(seed), model(0)))
    symbols, decoded = link.quantise(trained)
    received = accept(server, link, link.reply(Update(symbols, trained)), 2)
    expected = add(server.exact, subtract(decoded, link.received))
    for name, value in expected.items():
        np.testing.assert_allclose(received.tensor(name), value, atol=1e-6)
        assert received.tensor(name).dtype == value.dtype
    if isinstance(up, NoCompression) and server.exact is server.public:
        assert equal(
            whole(received), {**trained, "running_var": np.maximum(trained["running_var"], 0)}
        )


def test_recipes_may_quantise_in_parts_and_send_one_packet() -> None:
    agreed = session(up=Uniform(bits=3))
    server, link = serve(agreed), client(agreed, MemoryStateStore())
    deliver(server, link, 1)
    trained = model(5)
    first, _ = link.quantise({"w": trained["w"]})
    second, _ = link.quantise({n: v for n, v in trained.items() if n != "w"})
    whole_, _ = link.quantise(trained)
    parts = link.reply(Update({**first, **second}, trained))
    assert parts == link.reply(Update(whole_, trained))


def test_side_information_travels_both_ways() -> None:
    agreed = session()
    server, link = serve(agreed), client(agreed, MemoryStateStore())
    server.publish(model(1), 1, [], {"levels": np.arange(3, dtype=np.int32)})
    server.begin()
    with_side, _ = server.downlink("0")
    without, _ = server.downlink("0", side=False)
    assert len(with_side.blob) == len(without.blob) + with_side.side_bytes + 4
    deliver(server, link, 2)
    assert link.side["levels"].tolist() == [0, 1, 2]
    blob = answer(link, model(2), {"gram": np.ones(2, np.float16)})
    received = accept(server, link, blob, 2)
    assert received.side["gram"].tolist() == [1, 1]
    assert received.payload_bytes + received.side_bytes + HEADER_BYTES + 4 == len(blob)


def test_the_state_of_another_model_is_no_state() -> None:
    agreed, store = session(), MemoryStateStore()
    store.save("0", ClientState(b"123456", {"w": np.zeros(9, np.float32)}))
    server = serve(agreed)
    publish(server, model(1), 1)
    link = client(agreed, store)
    deliver(server, link, 2)
    assert equal(link.received, server.public)


def test_a_version_that_comes_out_differently_is_noticed() -> None:
    agreed = session()
    server = serve(agreed)
    publish(server, model(1), 1)
    sent, fields = server.downlink("0")
    (packet,) = read_chain(sent.blob)
    lie = Packet(
        packet.codec, packet.session, 1, packet.payload, NO_VERSION, b"lielie", Flag.STANDALONE
    )
    with pytest.raises(DivergedError, match="a codec that differs"):
        client(agreed, MemoryStateStore()).open(lie.to_bytes(), fields, 2)


def test_verify_proves_the_model_that_was_used() -> None:
    agreed = session(link=LinkSettings(verify=True))
    server, link = serve(agreed), client(agreed, MemoryStateStore())
    deliver(server, link, 1)
    good = link.reply_fields()
    link.received = {**link.received, "b": np.array(5, np.float32)}
    with pytest.raises(DivergedError, match="does not hold the public model"):
        server.confirm("0", link.reply_fields())
    with pytest.raises(DivergedError, match="it says nothing"):
        server.confirm("0", replace(good, digest=b""))


def test_version_names_are_prefixes_of_hashes() -> None:
    assert len(version_of(model(0))) == 6
    assert serve(session()).version == version_of(model(0))
