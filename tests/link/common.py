"""A small model and both ends of its link, for the tests of this folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fedcomp.codecs.base import Codec
from fedcomp.codecs.none import NoCompression
from fedcomp.link.broadcast import Sent
from fedcomp.link.client import ClientLink
from fedcomp.link.file_store import FileStateStore
from fedcomp.link.received import Received
from fedcomp.link.server import ServerLink
from fedcomp.link.session import Session
from fedcomp.link.settings import LinkSettings
from fedcomp.link.state import ClientState, Part, Pending, Previous
from fedcomp.link.stores import StateStore
from fedcomp.link.update import Update
from fedcomp.tensors import Kind, Manifest, Tensors, TensorSpec, add, version_of

BIG = Manifest((TensorSpec("w", (30, 40), "float32", Kind.WEIGHT),))
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


def big(seed: int, scale: float = 1.0) -> Tensors:
    """Return a model whose deltas are much smaller than its keyframe."""
    rng = np.random.default_rng(seed)
    return {"w": (scale * rng.normal(size=(30, 40))).astype(np.float32)}


def session(
    up: Codec | None = None,
    down: Codec | None = None,
    run: str = "run",
    link: LinkSettings | None = None,
    manifest: Manifest = MANIFEST,
) -> Session:
    codecs = up or NoCompression(), down or NoCompression()
    return Session(manifest, run, 1, *codecs, link or LinkSettings())


def initial(of: Session, start: int = 0) -> Tensors:
    """Return the model that a session is about."""
    return (model if of.manifest is MANIFEST else big)(start)


def client(of: Session, store: StateStore, site: str = "0", start: int = 0) -> ClientLink:
    return ClientLink(of, site, store, lambda: initial(of, start))


def serve(of: Session, start: int = 1) -> ServerLink:
    """Return a server with an open exchange."""
    server = ServerLink(of, initial(of), start)
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


def train(link: ClientLink, seed: int) -> tuple[bytes, Tensors]:
    """Answer with a change of the model; return the packet and what the server will see."""
    change = {n: v for n, v in initial(link.session, seed).items() if v.dtype.kind == "f"}
    target = add(link.received, {n: np.asarray(v / 20) for n, v in change.items()})
    symbols, seen = link.quantise(target)
    return link.reply(Update(symbols, target)), seen


def accept(server: ServerLink, link: ClientLink, blob: bytes, number: int) -> Received:
    """Give a client's packet to the server."""
    return server.uplink(link.site, blob, link.reply_fields(), number)


def whole(received: Received) -> Tensors:
    """Return all tensors of a reply."""
    return {name: received.tensor(name) for name in received.unpack()}


def files(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, but no locks."""
    found = sorted(folder.rglob("*"))
    return {str(p): p.read_bytes() for p in found if p.is_file() and p.suffix != ".lock"}


def lose_model(store: StateStore, site: str, folder: Path) -> None:
    """Let the model of a site be lost, and nothing else of its state."""
    if isinstance(store, FileStateStore):
        for path in (folder / "sites" / site).glob("*.safetensors"):
            if "-" not in path.name:
                path.unlink()
        return
    state = store.load(site)
    assert state is not None
    store.save(site, replace(state, version=b"", model={}))


def publish(server: ServerLink, made: Tensors, number: int, *used: str) -> None:
    """Publish a model and open the next exchange."""
    server.publish(made, number, used)
    server.begin()


def state(number: int) -> ClientState:
    tensors: Tensors = {"w": np.full((2, 3), number, np.float32), "n": np.array(number, np.int64)}
    return ClientState(version_of(tensors), tensors)


def full_state(number: int) -> ClientState:
    tensors = {"w": np.full((2, 3), -number, np.float32)}
    exchange = bytes(11) + bytes([number])
    return replace(
        state(number),
        exchange=exchange,
        residual=Part(tensors),
        pending=Pending(exchange, b"blob%d" % number, exchange, "note", b"symbols", Part(tensors)),
        previous=Previous(exchange, b"symbols"),
    )
