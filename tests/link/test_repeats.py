from __future__ import annotations

from pathlib import Path

import pytest

from fedcomp.codecs.cast import Cast
from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import BitstreamError, LinkError, StaleError
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import MemoryStateStore, StateStore
from fedcomp.link.update import Update
from fedcomp.tensors import full_digest
from tests.common import equal
from tests.link.common import (
    accept,
    answer,
    client,
    deliver,
    lose_model,
    model,
    publish,
    serve,
    session,
    train,
    whole,
)

VERIFIED = session(up=Uniform(bits=3), down=Cast(), link=LinkSettings(verify=True))


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


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("sent_kind", ["held", "delta"])
def test_a_repeated_message_proves_the_model_again(
    store: StateStore, tmp_path: Path, lost: bool, sent_kind: str
) -> None:
    server = serve(VERIFIED)
    if sent_kind == "delta":
        publish(server, model(1), 1)
    sent, fields = server.downlink("0")
    assert sent.kind == sent_kind
    link = client(VERIFIED, store)
    link.open(sent.blob, fields, 1)
    blob, _ = train(link, 3)  # and the answer is lost
    if lost:
        lose_model(store, "0", tmp_path)
    again = client(VERIFIED, store)
    again.open(sent.blob, fields, 1)
    assert again.answered is not None
    assert again.answered.blob == blob
    assert again.reply_fields() == link.reply_fields()
    assert again.reply_fields().digest == full_digest(server.public)
    assert equal(again.received, server.public)
    server.confirm("0", again.reply_fields())
    server.publish(server.exact, 1, [])
    server.begin()
    assert deliver(server, client(VERIFIED, store), 2).kind != "keyframe"


def test_a_repeated_message_that_needs_a_lost_model_brings_a_keyframe_and_the_same_answer(
    store: StateStore, tmp_path: Path
) -> None:
    server = serve(VERIFIED)
    publish(server, model(1), 1)
    deliver(server, client(VERIFIED, store), 2)
    server.begin()
    sent, fields = server.downlink("0")
    assert sent.kind == "held"
    link = client(VERIFIED, store)
    link.open(sent.blob, fields, 2)
    blob, seen = train(link, 3)
    lose_model(store, "0", tmp_path)
    again = client(VERIFIED, store)
    with pytest.raises(LinkError, match="lacks version"):
        again.open(sent.blob, fields, 2)
    server.forget("0")
    assert deliver(server, again, 2).kind == "keyframe"
    assert again.answered is not None
    assert again.answered.blob == blob
    received = whole(accept(server, again, blob, 2))
    if server.exact is server.public:
        assert equal(received, seen)
    kept = store.load("0")
    assert kept is not None
    assert equal(kept.model, dict(server.public))


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
