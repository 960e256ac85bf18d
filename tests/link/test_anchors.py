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
from fedcomp.errors import LinkError
from fedcomp.link.client import ClientLink
from fedcomp.link.server import ServerLink
from fedcomp.link.stores import MemoryStateStore
from fedcomp.tensors import Tensors
from fedcomp.wire.packet import HEADER_BYTES
from tests.common import equal
from tests.link.common import BIG, big, client, deliver, initial, publish, serve, session

DOWNS = [
    MaskedCodec("absolute", NoCompression()),
    MaskedCodec("absolute", Cast("absolute"), "golomb"),
    Lossless(),
    Mixed("absolute", (Part("weight", MaskedCodec("absolute", NoCompression())),), Lossless()),
]
MASKS = [np.random.default_rng(n).random((30, 40)) < 0.2 for n in range(3)]


def masked(number: int, mask: int) -> Tensors:
    """Return a model whose non-zeros are those of a mask, and of all masks with higher numbers."""
    keep = np.logical_or.reduce(MASKS[mask:])
    return {"w": big(0)["w"] * keep + 0.001 * number * keep.astype(np.float32)}


def restarted(server: ServerLink) -> ServerLink:
    arrays, values = server.save()
    twin = ServerLink(server.session, initial(server.session), 2)
    twin.load(load(save(arrays)), json.loads(json.dumps(values)))
    return twin


@pytest.mark.parametrize("down", DOWNS, ids=str)
def test_every_client_ends_with_the_public_model(down: Codec) -> None:
    agreed = session(down=down, manifest=BIG)
    server, stores = serve(agreed), [MemoryStateStore() for _ in range(6)]
    rng, kinds = np.random.default_rng(1), set()
    for number in range(1, 25):
        for site, store in enumerate(stores):
            if rng.random() < 0.5:
                link = client(agreed, store, str(site))
                kinds.add(deliver(server, link, number).kind)
                assert equal(link.received, server.public)
        publish(server, masked(number, number // 9), number)
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
    with pytest.raises(LinkError, match="lacks version"):
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
