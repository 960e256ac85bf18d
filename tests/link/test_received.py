from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.codecs.base import Codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import BitstreamError
from fedcomp.link.server import ServerLink
from fedcomp.link.session import Session
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import MemoryStateStore, StateStore
from fedcomp.link.update import Update
from fedcomp.tensors import Tensors
from fedcomp.wire.fields import Reply
from tests.common import equal
from tests.link.common import accept, answer, client, deliver, model, publish, serve, session


def test_the_server_refuses_replies_that_do_not_fit() -> None:
    agreed = session()
    server = serve(agreed)

    def reply(of: Session, at: ServerLink, site: str = "0") -> tuple[bytes, Reply]:
        link = client(of, MemoryStateStore(), site)
        deliver(at, link, 1)
        return answer(link, model(4)), link.reply_fields()

    good, claims = reply(agreed, server)
    with pytest.raises(BitstreamError, match="the reply is for round 1"):
        server.uplink("0", good, claims, 2)
    server.uplink("0", good, claims, 1)
    with pytest.raises(BitstreamError, match="answered this exchange already"):
        server.uplink("0", good, claims, 1)
    other = reply(session(run="other"), serve(session(run="other")), "1")
    server.downlink("1")
    with pytest.raises(BitstreamError, match="another run, another model"):
        server.uplink("1", *other, 1)
    foreign = reply(session(up=Cast()), server, "1")
    with pytest.raises(BitstreamError, match="same codec with the same settings"):
        server.uplink("1", *foreign, 1)
    with pytest.raises(BitstreamError, match="one plain packet"):
        server.uplink("1", good + good, claims, 1)


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


def test_buffers_have_a_largest_norm_of_their_own() -> None:
    agreed = session(link=LinkSettings(max_buffer_norm=10.0))
    for change, fits in ((7.0, True), (7.2, False)):
        server, link = serve(agreed), client(agreed, MemoryStateStore())
        deliver(server, link, 1)
        far = {"w": server.exact["w"] + 1e6, "n": np.array(5000, np.int64)}
        far["running_var"] = server.exact["running_var"] + np.float32(change)
        blob = answer(link, model(0) | far)
        if fits:
            assert accept(server, link, blob, 1).tensor("n") == 5000
        else:
            message = r"change of the buffers has the L2 norm 10\.18, allowed is 10 \(link\.max_buf"
            with pytest.raises(BitstreamError, match=message):
                accept(server, link, blob, 1)


@pytest.mark.parametrize("up", [NoCompression(), Cast(dtype="bf16")], ids=str)
def test_the_largest_norm_is_that_of_the_parameters(up: Codec) -> None:
    agreed = session(up=up, link=LinkSettings(max_update_norm=10.0))
    buffers = {"n": np.array(5000, np.int64), "running_var": np.full(2, 1e6, np.float32)}
    for weight, fits in ((9.0, True), (11.0, False)):
        server, link = serve(agreed), client(agreed, MemoryStateStore())
        deliver(server, link, 1)
        w = server.exact["w"].copy()
        w[0, 0] += weight
        blob = answer(link, model(0) | buffers | {"w": w})
        if fits:
            assert accept(server, link, blob, 1).tensor("n") == 5000
        else:
            with pytest.raises(BitstreamError, match=r"L2 norm 11(\.0\d*)?, allowed is 10"):
                accept(server, link, blob, 1)


COUNTS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), 2**63 - 1, 2**40, 2**31, 2**31 + 1, -(2**31), -(2**31) - 1]),
)


@given(COUNTS, st.sampled_from([NoCompression(), Uniform(bits=8)]))
def test_a_counter_moves_by_no_more_than_a_round_can_count(count: int, up: Codec) -> None:
    agreed = session(up=up)
    server, link = serve(agreed), client(agreed, MemoryStateStore())
    deliver(server, link, 1)
    blob = answer(link, model(0) | {"n": np.array(count, np.int64)})
    if abs(count) <= 2**31:
        assert accept(server, link, blob, 1).tensor("n") == count
    else:
        with pytest.raises(BitstreamError, match="counts n on by more than"):
            accept(server, link, blob, 1)


def left_out(server: ServerLink, agreed: Session) -> Tensors:
    """Return two tensors as a strategy gets them from a client that sent one."""
    link = client(agreed, MemoryStateStore())
    deliver(server, link, 1)
    w = model(5)["w"]
    symbols, _ = link.quantise({"w": w})
    received = accept(server, link, link.reply(Update(symbols, {"w": w})), 1)
    return {name: received.tensor(name) for name in ("w", "b")}


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("down", [NoCompression(), Cast(dtype="bf16")], ids=str)
def test_a_tensor_left_out_is_the_servers_own_and_cannot_be_changed(
    published: bool, down: Codec
) -> None:
    agreed = session(up=Uniform(bits=8), down=down)
    server = serve(agreed)
    if published:
        publish(server, model(1), 1)
    found = left_out(server, agreed)
    assert found["b"] == server.exact["b"]
    with pytest.raises(ValueError, match="read-only"):
        found["b"] += 5
    with pytest.raises(ValueError, match="read-only"):
        server.public["w"][0] = 5
    assert found["w"].flags.writeable


@pytest.mark.parametrize("down", [NoCompression(), Cast()], ids=str)
def test_the_public_model_cannot_be_changed_by_a_client_either(
    down: Codec, store: StateStore
) -> None:
    agreed = session(up=Uniform(bits=3), down=down)
    server = serve(agreed)
    publish(server, model(1), 1)
    sent, fields = server.downlink("0")
    link, again = (client(agreed, store) for _ in range(2))
    link.open(sent.blob, fields, 2)
    answer(link, model(3))
    again.open(sent.blob, fields, 2)
    assert again.answered is not None
    for opened in (link, again):
        for name, value in opened.received.items():
            with pytest.raises(ValueError, match="read-only"):
                value += 1
            assert not np.shares_memory(value, server.public[name])
    other = client(agreed, store, "1")
    deliver(server, other, 2)
    assert equal(other.received, server.public)


def test_received_symbols_are_those_of_a_codecs_packet() -> None:
    agreed, store = session(down=Uniform(bits=4)), MemoryStateStore()
    server = serve(agreed)
    publish(server, model(1), 1)
    link, before = client(agreed, store), model(0)
    assert deliver(server, link, 2).kind == "delta"
    assert link.received_symbols is not None
    context = agreed.context("downlink", 1, before)
    moved = agreed.downlink.reconstruct(link.received_symbols, context)
    np.testing.assert_allclose(before["w"] + moved["w"], link.received["w"], atol=1e-6)
    server.forget("0")
    fresh = client(agreed, MemoryStateStore())
    assert deliver(server, fresh, 2).kind == "keyframe"
    assert fresh.received_symbols is None
