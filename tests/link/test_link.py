from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.codecs.base import Codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.none import NoCompression
from fedcomp.errors import BitstreamError, LinkError
from fedcomp.link.client import ClientLink, Update
from fedcomp.link.server import ServerLink
from fedcomp.link.session import Session
from fedcomp.link.stores import MemoryStateStore, StateStore
from fedcomp.tensors import Kind, Manifest, Tensors, TensorSpec, add, subtract, version_of
from fedcomp.wire.packet import HEADER_BYTES, NO_VERSION, Flag, Packet, read_chain
from tests.common import equal

MANIFEST = Manifest(
    (
        TensorSpec("w", (3, 4), "float32", Kind.WEIGHT),
        TensorSpec("b", (), "float32", Kind.BIAS),
        TensorSpec("n", (), "int64", Kind.COUNTER),
    )
)
CODECS = [NoCompression(), Cast(), Cast(mode="absolute", dtype="bf16")]


def model(seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=(3, 4)).astype(np.float32),
        "b": np.array(rng.normal(), np.float32),
        "n": np.array(seed, np.int64),
    }


def session(up: Codec | None = None, down: Codec | None = None, run: str = "run") -> Session:
    return Session(MANIFEST, run, 1, up or NoCompression(), down or NoCompression())


def client(of: Session, store: StateStore, site: str = "0", start: int = 0) -> ClientLink:
    return ClientLink(of, site, store, lambda: model(start))


@pytest.mark.parametrize("down", CODECS, ids=str)
def test_clients_hold_the_public_model_to_the_bit(down: Codec) -> None:
    agreed = session(down=down)
    server, stores = ServerLink(agreed, model(0)), [MemoryStateStore() for _ in range(3)]
    rng = np.random.default_rng(0)
    for number in range(1, 12):
        for site, store in enumerate(stores):
            if rng.random() < 0.6:  # the others miss this round
                link = client(agreed, store, str(site))
                link.open(server.downlink(str(site)).blob, number)
                server.confirm(str(site), link.version)
                assert equal(link.received, server.public)
        server.publish(add(server.exact, subtract(model(number), model(number - 1))), number)


def test_what_a_downlink_loses_travels_with_the_next_version() -> None:
    server = ServerLink(session(down=Cast(dtype="bf16")), model(0))
    target = model(1)
    errors = []
    for number in range(1, 6):
        server.publish(target, number)
        errors.append(float(np.abs(server.exact["w"] - server.public["w"]).max()))
    assert errors[0] > 1e-4
    assert errors[-1] < 1e-7


def test_each_client_gets_the_cheapest_packet_that_it_can_use() -> None:
    agreed = session(down=Cast())
    server, store = ServerLink(agreed, model(0)), MemoryStateStore()
    assert server.downlink("0").kind == "held"
    assert len(server.downlink("0").blob) == HEADER_BYTES
    server.publish(model(1), 1)
    assert server.downlink("0").kind == "delta"
    link = client(agreed, store)
    link.open(server.downlink("0").blob, 2)
    server.confirm("0", link.version)
    assert server.downlink("0").kind == "held"
    server.publish(model(2), 2)
    server.publish(model(3), 3)
    assert server.downlink("0").kind == "keyframe"
    server.forget("1")
    assert server.downlink("1").kind == "keyframe"
    assert server.downlink("0").blob is server.downlink("1").blob


def test_a_client_without_the_version_says_so() -> None:
    agreed = session(down=Cast())
    server = ServerLink(agreed, model(0))
    other = client(agreed, MemoryStateStore(), start=7)  # another initial model
    with pytest.raises(LinkError, match="holds nothing and lacks version"):
        other.open(server.downlink("0").blob, 1)
    server.publish(model(1), 1)
    with pytest.raises(LinkError, match="lacks version"):
        other.open(server.downlink("0").blob, 2)
    server.forget("0")
    other.open(server.downlink("0").blob, 2)
    assert equal(other.received, server.public)


@settings(deadline=None)
@given(st.sampled_from(CODECS), st.sampled_from(CODECS), st.integers(0, 99))
def test_the_server_sees_exact_model_plus_the_clients_change(
    up: Codec, down: Codec, seed: int
) -> None:
    agreed = session(up, down)
    server = ServerLink(agreed, model(0))
    server.publish(model(1), 1)
    link = client(agreed, MemoryStateStore())
    link.open(server.downlink("0").blob, 2)
    trained = add(link.received, subtract(model(seed), model(0)))
    symbols, decoded = link.quantise(trained)
    received = server.uplink("0", link.reply(Update(symbols, trained)), 2)
    change = subtract(decoded, link.received)
    expected = add(server.exact, change)
    for name, value in expected.items():
        np.testing.assert_allclose(received.model[name], value, atol=1e-6)
        assert received.model[name].dtype == value.dtype
    if isinstance(up, NoCompression) and server.exact is server.public:
        assert equal(received.model, trained)


def test_recipes_may_quantise_in_parts_and_send_one_packet() -> None:
    agreed = session(up=Cast())
    server, link = ServerLink(agreed, model(0)), client(agreed, MemoryStateStore())
    link.open(server.downlink("0").blob, 1)
    trained = model(5)
    first, _ = link.quantise({"w": trained["w"]})
    second, _ = link.quantise({"b": trained["b"], "n": trained["n"]})
    whole, _ = link.quantise(trained)
    parts = link.reply(Update({**first, **second}, trained))
    assert parts == link.reply(Update(whole, trained))


def test_side_information_travels_both_ways() -> None:
    agreed = session()
    server, link = ServerLink(agreed, model(0)), client(agreed, MemoryStateStore())
    server.publish(model(1), 1, {"levels": np.arange(3, dtype=np.int32)})
    link.open(server.downlink("0").blob, 2)
    assert link.side["levels"].tolist() == [0, 1, 2]
    symbols, _ = link.quantise(model(2))
    blob = link.reply(Update(symbols, model(2), {"gram": np.ones(2, np.float16)}))
    received = server.uplink("0", blob, 2)
    assert received.side["gram"].tolist() == [1, 1]
    assert received.payload_bytes + received.side_bytes + HEADER_BYTES + 4 == len(blob)


def test_who_refused_a_lossy_packet_gets_a_keyframe_in_every_mode() -> None:
    server = ServerLink(session(down=Cast(mode="absolute")), model(0))
    server.publish(model(1), 1)
    assert server.downlink("0").kind == "absolute"
    server.forget("0")
    assert server.downlink("0").kind == "keyframe"


def test_side_information_comes_with_every_message_of_its_version() -> None:
    agreed, store = session(), MemoryStateStore()
    server = ServerLink(agreed, model(0))
    server.publish(model(1), 1, {"levels": np.arange(3, dtype=np.int32)})
    for kind in ("absolute", "held"):  # an evaluation, then the training
        assert server.downlink("0").kind == kind
        link = client(agreed, store)
        link.open(server.downlink("0").blob, 2)
        server.confirm("0", link.version)
        assert link.side["levels"].tolist() == [0, 1, 2]


def test_the_state_of_another_model_is_no_state() -> None:
    from fedcomp.link.stores import ClientState

    agreed, store = session(), MemoryStateStore()
    store.save("0", ClientState(b"123456", {"w": np.zeros(9, np.float32)}))
    server = ServerLink(agreed, model(0))
    server.publish(model(1), 1)
    link = client(agreed, store)
    link.open(server.downlink("0").blob, 2)
    assert equal(link.received, server.public)


def reply(agreed: Session, server: ServerLink, number: int = 1) -> bytes:
    link = client(agreed, MemoryStateStore())
    link.open(server.downlink("0").blob, number)
    symbols, _ = link.quantise(model(4))
    return link.reply(Update(symbols, model(4)))


def test_the_server_refuses_replies_that_do_not_fit() -> None:
    agreed = session()
    server = ServerLink(agreed, model(0))
    good = reply(agreed, server)
    server.uplink("0", good, 1)
    with pytest.raises(BitstreamError, match="the reply is for round 1"):
        server.uplink("0", good, 2)
    with pytest.raises(BitstreamError, match="another run, or another model"):
        server.uplink("0", reply(session(run="other"), server_of("other")), 1)
    with pytest.raises(BitstreamError, match="same codec with the same settings"):
        server.uplink("0", reply(session(up=Cast()), server), 1)
    with pytest.raises(BitstreamError, match="one plain packet"):
        server.uplink("0", good + good, 1)
    server.publish(model(1), 1)
    with pytest.raises(BitstreamError, match="version"):
        server.uplink("0", good, 1)


def server_of(run: str) -> ServerLink:
    return ServerLink(session(run=run), model(0))


def test_the_server_refuses_values_that_are_not_finite() -> None:
    agreed = session()
    server, link = ServerLink(agreed, model(0)), client(agreed, MemoryStateStore())
    link.open(server.downlink("0").blob, 1)
    bad = {**model(1), "b": np.array(np.inf, np.float32)}
    symbols, _ = link.quantise(bad)
    with pytest.raises(BitstreamError, match="not finite, in b"):
        server.uplink("0", link.reply(Update(symbols, bad)), 1)


def test_a_version_that_comes_out_differently_is_noticed() -> None:
    agreed = session()
    server = ServerLink(agreed, model(0))
    server.publish(model(1), 1)
    (packet,) = read_chain(server.downlink("0").blob)
    lie = Packet(
        packet.codec, packet.session, 1, packet.payload, NO_VERSION, b"lielie", Flag.STANDALONE
    )
    with pytest.raises(LinkError, match="a codec that differs"):
        client(agreed, MemoryStateStore()).open(lie.to_bytes(), 2)


def test_version_names_are_prefixes_of_hashes() -> None:
    assert len(version_of(model(0))) == 6
    assert ServerLink(session(), model(0)).version == version_of(model(0))
