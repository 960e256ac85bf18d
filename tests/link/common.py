"""A small model and both ends of its link, for the tests of this folder."""

from __future__ import annotations

import numpy as np

from fedcomp.codecs.base import Codec
from fedcomp.codecs.none import NoCompression
from fedcomp.link.client import ClientLink, Update
from fedcomp.link.received import Received
from fedcomp.link.server import Sent, ServerLink
from fedcomp.link.session import Session
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import StateStore
from fedcomp.tensors import Kind, Manifest, Tensors, TensorSpec

MANIFEST = Manifest(
    (
        TensorSpec("w", (3, 4), "float32", Kind.WEIGHT),
        TensorSpec("b", (), "float32", Kind.BIAS),
        TensorSpec("running_var", (2,), "float32", Kind.BUFFER),
        TensorSpec("n", (), "int64", Kind.COUNTER),
    )
)


def model(seed: int) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=(3, 4)).astype(np.float32),
        "b": np.array(rng.normal(), np.float32),
        "running_var": rng.uniform(size=2).astype(np.float32),
        "n": np.array(seed, np.int64),
    }


def session(
    up: Codec | None = None,
    down: Codec | None = None,
    run: str = "run",
    link: LinkSettings | None = None,
) -> Session:
    codecs = up or NoCompression(), down or NoCompression()
    return Session(MANIFEST, run, 1, *codecs, link or LinkSettings())


def client(of: Session, store: StateStore, site: str = "0", start: int = 0) -> ClientLink:
    return ClientLink(of, site, store, lambda: model(start))


def serve(of: Session, start: int = 1) -> ServerLink:
    """Return a server with an open exchange."""
    server = ServerLink(of, model(0), start)
    server.begin()
    return server


def deliver(server: ServerLink, link: ClientLink, number: int) -> Sent:
    """Bring a client to the newest version, and let the server know."""
    sent, fields = server.downlink(link.site)
    link.open(sent.blob, fields, number)
    server.confirm(link.site, link.reply_fields())
    return sent


def answer(link: ClientLink, trained: Tensors, side: Tensors | None = None) -> bytes:
    """Return the packet of a trained model."""
    symbols, _ = link.quantise(trained)
    return link.reply(Update(symbols, trained, side or {}))


def accept(server: ServerLink, link: ClientLink, blob: bytes, number: int) -> Received:
    """Give a client's packet to the server."""
    return server.uplink(link.site, blob, link.reply_fields(), number)


def whole(received: Received) -> Tensors:
    """Return all tensors of a reply."""
    return {name: received.tensor(name) for name in MANIFEST.by_name}


def publish(server: ServerLink, made: Tensors, number: int, *used: str) -> None:
    """Publish a model and open the next exchange."""
    server.publish(made, number, used)
    server.begin()
