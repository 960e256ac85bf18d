from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.codecs.base import Codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import BitstreamError, DivergedError, LinkError, StaleError
from fedcomp.link.client import Update
from fedcomp.link.server import ServerLink
from fedcomp.link.session import Session
from fedcomp.link.settings import LinkSettings
from fedcomp.link.state import ClientState
from fedcomp.link.stores import MemoryStateStore
from fedcomp.tensors import Tensors, add, subtract, version_of
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

CODECS = [NoCompression(), Cast(), Cast(mode="absolute", dtype="bf16"), Uniform(bits=4)]


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


def big(seed: int, scale: float = 1.0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {"w": (scale * rng.normal(size=(30, 40))).astype(np.float32)}


def test_chains_are_bounded_and_encoded_once_for_all_who_hold_the_same() -> None:
    from tests.common import manifest_for

    settings_ = LinkSettings(history_versions=3)
    down = Uniform(bits=2)
    agreed = Session(manifest_for(big(0)), "run", 1, NoCompression(), down, settings_)
    server = ServerLink(agreed, big(0), 1)
    server.begin()
    kinds = []
    for number in range(1, 6):
        publish(server, add(server.exact, big(number, 0.1)), number)  # type: ignore[arg-type]
        kinds.append(server.downlink("late")[0].kind)
    assert kinds == ["delta", "chain", "chain", "keyframe", "keyframe"]
    assert server.downlink("a")[0].blob is server.downlink("b")[0].blob


def test_a_receiver_skips_what_it_has() -> None:
    agreed = session(down=Cast())
    server, store = serve(agreed), MemoryStateStore()
    publish(server, model(1), 1)
    link = client(agreed, store)
    deliver(server, link, 2)
    publish(server, model(2), 2)
    packets = server._history.since(version_of(model(0)))
    assert packets is not None
    _, fields = server.downlink("0")
    link.open(b"".join(packet.to_bytes() for packet in packets), fields, 3)
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


def test_tensors_that_are_not_sent_stay_as_they_are_and_are_fed_back() -> None:
    agreed = session(up=Uniform(bits=8))
    server, link = serve(agreed), client(agreed, MemoryStateStore())
    deliver(server, link, 1)
    trained = model(5)
    symbols, _ = link.quantise({"w": trained["w"]})
    blob = link.reply(Update(symbols, {"w": trained["w"], "b": trained["b"]}))
    received = accept(server, link, blob, 1)
    assert received.tensor("b") == server.exact["b"]
    server.publish(server.exact, 1, ["0"])
    server.begin()
    deliver(server, link, 2)
    assert link.residual["b"] == trained["b"] - model(0)["b"]


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


def test_who_refused_a_lossy_packet_gets_a_keyframe_in_every_mode() -> None:
    server = serve(session(down=Cast(mode="absolute")))
    publish(server, model(1), 1)
    assert server.downlink("0")[0].kind == "absolute"
    server.forget("0")
    assert server.downlink("0")[0].kind == "keyframe"


def test_the_state_of_another_model_is_no_state() -> None:
    agreed, store = session(), MemoryStateStore()
    store.save("0", ClientState(b"123456", {"w": np.zeros(9, np.float32)}))
    server = serve(agreed)
    publish(server, model(1), 1)
    link = client(agreed, store)
    deliver(server, link, 2)
    assert equal(link.received, server.public)


def test_a_variance_does_not_become_negative_by_what_codecs_lose() -> None:
    server = serve(session(down=Cast()))
    publish(server, {**model(0), "running_var": np.array([3.0, 3.0], np.float32)}, 1)
    publish(server, {**model(0), "running_var": np.array([1e-4, 1.7e-5], np.float32)}, 2)
    assert (server.public["running_var"] >= 0).all()
    assert server.public["running_var"].min() == 0  # the half float of the difference is too far


def test_the_same_exchange_is_answered_with_the_same_packet() -> None:
    agreed, store = session(up=Uniform(bits=3)), MemoryStateStore()
    server, link = serve(agreed), client(agreed, store)
    sent, fields = server.downlink("0")
    link.open(sent.blob, fields, 1)
    symbols, _ = link.quantise(model(3))
    blob = link.reply(Update(symbols, model(3)), note="metrics")
    again = client(agreed, store)
    again.open(sent.blob, fields, 1)
    assert again.answered is not None
    assert (again.answered.blob, again.answered.note) == (blob, "metrics")
    assert again.reply_fields() == link.reply_fields()


def test_messages_that_come_too_late_are_refused_at_both_ends() -> None:
    agreed, store = session(up=Uniform(bits=3)), MemoryStateStore()
    server, link = serve(agreed), client(agreed, store)
    sent, old = server.downlink("0")
    link.open(sent.blob, old, 1)
    late, claims = answer(link, model(3)), link.reply_fields()
    server.begin()
    deliver(server, client(agreed, store), 2)
    with pytest.raises(BitstreamError, match="it came too late"):
        server.uplink("0", late, claims, 1)
    with pytest.raises(StaleError, match="comes too late"):
        client(agreed, store).open(sent.blob, old, 1)


def test_the_server_refuses_replies_that_do_not_fit() -> None:
    agreed = session()
    server = serve(agreed)

    def reply(of: Session, at: ServerLink, site: str = "0") -> tuple[bytes, object]:
        link = client(of, MemoryStateStore(), site)
        deliver(at, link, 1)
        return answer(link, model(4)), link.reply_fields()

    good, claims = reply(agreed, server)
    with pytest.raises(BitstreamError, match="the reply is for round 1"):
        server.uplink("0", good, claims, 2)  # type: ignore[arg-type]
    server.uplink("0", good, claims, 1)  # type: ignore[arg-type]
    with pytest.raises(BitstreamError, match="answered this exchange already"):
        server.uplink("0", good, claims, 1)  # type: ignore[arg-type]
    other = reply(session(run="other"), serve(session(run="other")), "1")
    server.downlink("1")
    with pytest.raises(BitstreamError, match="another run, or another model"):
        server.uplink("1", *other, 1)  # type: ignore[arg-type]
    foreign = reply(session(up=Cast()), server, "1")
    with pytest.raises(BitstreamError, match="same codec with the same settings"):
        server.uplink("1", *foreign, 1)  # type: ignore[arg-type]
    with pytest.raises(BitstreamError, match="one plain packet"):
        server.uplink("1", good + good, claims, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"b": np.array(np.inf, np.float32)}, "not finite, in b"),
        ({"b": np.array(1e9, np.float32)}, r"L2 norm 1e\+09, allowed is 100"),
    ],
)
def test_the_server_refuses_wild_values(values: dict[str, np.ndarray], message: str) -> None:  # type: ignore[type-arg]
    agreed = session(link=LinkSettings(max_update_norm=100.0))
    server, link = serve(agreed), client(agreed, MemoryStateStore())
    deliver(server, link, 1)
    with pytest.raises(BitstreamError, match=message):
        accept(server, link, answer(link, {**model(1), **values}), 1)


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


@pytest.mark.parametrize("down", [Cast(), Cast(mode="absolute")])
def test_a_saved_server_goes_on_where_it_was(down: Codec) -> None:
    agreed, store = session(up=Uniform(bits=3), down=down), MemoryStateStore()
    server, link = serve(agreed), client(agreed, store)
    deliver(server, link, 1)
    accept(server, link, answer(link, model(3)), 1)
    server.publish(model(1), 1, ["0"], {"side": np.ones(2, np.float32)})
    twin = ServerLink(agreed, model(0), start=2)
    twin.load(*server.save())
    for one in (server, twin):
        one.begin()
    assert (twin.version, equal(twin.exact, server.exact)) == (server.version, True)
    for site in "01":
        assert twin.downlink(site)[0].blob == server.downlink(site)[0].blob
        assert twin.downlink(site)[1].used == server.downlink(site)[1].used
    assert server.downlink("0")[1].exchange < twin.downlink("0")[1].exchange


def test_version_names_are_prefixes_of_hashes() -> None:
    assert len(version_of(model(0))) == 6
    assert serve(session()).version == version_of(model(0))
