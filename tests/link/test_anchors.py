"""Packets of models that refer to what their receivers hold: masks, and exclusive or."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedcomp.codecs.base import Codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.lossless import Lossless
from fedcomp.codecs.masked import MaskedCodec
from fedcomp.codecs.mixed import Mixed, Part
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.schedule import Schedule
from fedcomp.codecs.scheduled import Scheduled
from fedcomp.errors import LinkError
from fedcomp.link.client import ClientLink
from fedcomp.link.server import ServerLink
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import MemoryStateStore
from fedcomp.tensors import Kind, Manifest, Tensors, TensorSpec
from fedcomp.wire.packet import HEADER_BYTES, Flag, read_chain
from tests.common import equal
from tests.link.common import BIG, big, client, deliver, initial, publish, serve, session

PAIR = Manifest((*BIG.specs, TensorSpec("b", (300,), "float32", Kind.BIAS)))

DOWNS = [
    MaskedCodec("absolute", NoCompression()),
    MaskedCodec("absolute", Cast("absolute"), "golomb"),
    Lossless(),
    Mixed("absolute", (Part("weight", MaskedCodec("absolute", NoCompression())),), Lossless()),
    Mixed("absolute", (Part("weight", NoCompression()),), Lossless()),
    Scheduled.of(Lossless(), Schedule("level", 1, 9, "linear", rounds=24)),
    MaskedCodec("absolute", Lossless()),
]
MASKS = [np.random.default_rng(n).random((30, 40)) < 0.2 for n in range(3)]


def masked(number: int, mask: int) -> Tensors:
    """Return a model whose non-zeros are those of a mask, and of all masks with higher numbers."""
    keep = np.logical_or.reduce(MASKS[mask:])
    return {"w": big(0)["w"] * keep + 0.001 * number * keep.astype(np.float32)}


def pair(number: int) -> Tensors:
    """Return a model of two tensors, of which the second changes now and then."""
    bias = np.arange(300, dtype=np.float32) + np.float32(0.5 + number // 5)
    return masked(number, min(number // 9, 2)) | {"b": bias}


def restarted(server: ServerLink) -> ServerLink:
    arrays, values = server.save()
    start = pair(0) if server.session.manifest is PAIR else initial(server.session)
    twin = ServerLink(server.session, start, 2)
    twin.load(load(save(arrays)), json.loads(json.dumps(values)))
    return twin


@pytest.mark.parametrize("down", DOWNS, ids=str)
def test_every_client_ends_with_the_public_model(down: Codec) -> None:
    agreed = session(down=down, manifest=PAIR)
    server, stores = ServerLink(agreed, pair(0), 1), [MemoryStateStore() for _ in range(6)]
    server.begin()
    rng, kinds = np.random.default_rng(1), set()
    for number in range(1, 25):
        for site, store in enumerate(stores):
            if rng.random() < 0.5:
                link = ClientLink(agreed, str(site), store, lambda: pair(0))
                kinds.add(deliver(server, link, number).kind)
                assert equal(link.received, server.public)
        publish(server, pair(number), number)
        if number in (5, 18):
            server = restarted(server)
        server.begin()
    assert kinds >= {"held", "absolute", "anchored"}


def test_a_mask_is_told_once_to_each_client() -> None:
    agreed = session(down=MaskedCodec("absolute", NoCompression()), manifest=BIG)
    server, stores = serve(agreed), {site: MemoryStateStore() for site in "abc"}
    sizes = []

    def give(sites: str, number: int) -> list[str]:
        found = [deliver(server, client(agreed, stores[site], site), number) for site in sites]
        sizes.append([len(sent.blob) for sent in found])
        server.begin()
        return [sent.kind for sent in found]

    publish(server, masked(1, 0), 1)
    assert give("ab", 2) == ["absolute", "absolute"]
    publish(server, masked(2, 0), 2)
    assert give("ac", 3) == ["anchored", "absolute"]
    publish(server, masked(3, 0), 3)
    assert give("abc", 4) == ["anchored"] * 3  # b missed a version with the same mask
    publish(server, masked(4, 1), 4)
    assert give("ab", 5) == ["anchored", "anchored"]  # the new mask, told by the old one
    publish(server, masked(5, 1), 5)
    assert give("abc", 6) == ["anchored", "anchored", "absolute"]  # c has the old mask
    count = int(np.count_nonzero(masked(5, 1)["w"]))
    assert sizes[-1][0] == HEADER_BYTES + 2 + 1 + 4 * count + 2  # a length, values, and no mask
    mask_bytes = sizes[-1][2] - sizes[-1][0]
    assert 0.9 < mask_bytes / 119 < 1.3  # H(0.36) of 1,200 bits
    assert sizes[-2][0] - sizes[-1][0] < mask_bytes


@pytest.mark.parametrize("kept", [1, 3])
def test_one_message_serves_all_whose_models_the_codec_cannot_tell_apart(kept: int) -> None:
    links = LinkSettings(history_versions=kept)
    agreed = session(down=MaskedCodec("absolute", NoCompression()), manifest=BIG, link=links)
    server = serve(agreed)
    versions = []
    for number in range(1, 8):
        publish(server, masked(number, 0), number)
        versions.append(server.version)
    sent = [server.broadcast.message(version, side=True) for version in versions]
    assert [one.kind for one in sent[:-1]] == ["absolute"] * (6 - kept) + ["anchored"] * kept
    assert all(one.blob is sent[5].blob for one in sent[6 - kept : 6])
    assert len(server.save()[1]["alike"]) == kept  # as many as of the history
    plain = serve(session(down=Cast("absolute"), manifest=BIG))
    for number in range(1, 5):
        publish(plain, masked(number, 0), number)
    assert len(plain.save()[1]["alike"]) == 1


def test_a_client_does_not_take_a_packet_for_another_mask() -> None:
    agreed = session(down=MaskedCodec("absolute", NoCompression()), manifest=BIG)
    server, stores = serve(agreed), [MemoryStateStore() for _ in range(2)]
    for number, mask in ((1, 0), (2, 1), (3, 1)):
        publish(server, masked(number, mask), number)
        server.begin()
        if number < 3:
            site = str(number - 1)
            deliver(server, client(agreed, stores[number - 1], site), number + 1)
    (packet,) = read_chain(server.broadcast.message(server.version, side=True).blob)
    assert Flag.HELD in packet.flags
    sent, fields = server.downlink("1")
    assert sent.kind == "anchored"
    old = client(agreed, stores[0], "0")
    with pytest.raises(LinkError, match="holds no model that the codec calls"):
        old.open(sent.blob, fields, 4)


def test_lost_states_cost_the_packet_that_stands_alone_and_no_keyframe() -> None:
    agreed = session(down=MaskedCodec("absolute", NoCompression()), manifest=BIG)
    server, store = serve(agreed), MemoryStateStore()
    for number in (1, 2):
        publish(server, masked(number, 0), number)
        deliver(server, client(agreed, store), number + 1)
        server.begin()
    publish(server, masked(3, 0), 3)
    assert server.downlink("0")[0].kind == "anchored"
    fresh = client(agreed, MemoryStateStore())
    with pytest.raises(LinkError, match="holds no model that the codec calls"):
        deliver(server, fresh, 4)
    server.forget("0")
    assert deliver(server, fresh, 4).kind == "absolute"
    assert equal(fresh.received, server.public)
    server.begin()
    publish(server, masked(4, 0), 4)
    assert server.downlink("0")[0].kind == "anchored"
    server.forget("0")
    server.forget("0")
    assert server.downlink("0")[0].kind == "keyframe"


def test_exclusive_or_reaches_those_who_hold_the_last_version() -> None:
    agreed = session(down=Lossless(), manifest=BIG)
    server, stores = serve(agreed), [MemoryStateStore() for _ in range(2)]
    links: list[ClientLink] = []
    sizes = {}
    for number in (1, 2, 3):
        publish(server, {"w": big(0)["w"] + np.float32(1e-4 * number)}, number)
        server.begin()
        for site, store in enumerate(stores[: 1 if number == 2 else 2]):
            links.append(client(agreed, store, str(site)))
            sent = deliver(server, links[-1], number + 1)
            sizes[number, site] = (sent.kind, len(sent.blob))
            assert equal(links[-1].received, server.public)
    assert sizes[3, 0][0] == "anchored"
    assert sizes[3, 1][0] == "absolute"
    assert sizes[3, 0][1] < 0.75 * sizes[3, 1][1]
