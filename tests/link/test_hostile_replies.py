"""Damaged replies at the server's end: refused, in time, and within the manifest's memory."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fedcomp.codecs.base import Codec
from fedcomp.codecs.fsfl import Fsfl
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.powersgd import PowerSgd
from fedcomp.codecs.topk import TopK
from fedcomp.link.server import ServerLink
from fedcomp.link.session import Session
from fedcomp.link.settings import LinkSettings
from fedcomp.tensors import Kind, Manifest, TensorSpec
from fedcomp.wire.fields import Reply
from fedcomp.wire.packet import Packet
from fedcomp.wire.side import write_side
from tests.coding.hostile import TABLES, Reader, Sample, attack
from tests.wire.test_hostile import damaged_inside

MANIFEST = Manifest(
    (
        TensorSpec("w", (300, 400), "float32", Kind.WEIGHT),
        TensorSpec("b", (300,), "float32", Kind.BIAS),
        TensorSpec("n", (), "int64", Kind.COUNTER),
    )
)
CODECS: dict[str, Codec] = {
    "none": NoCompression(),
    "topk": TopK(density=0.05),
    "golomb": TopK(density=0.05, coder="golomb"),
    "fsfl": Fsfl(),
    "powersgd": PowerSgd(),
}
BYTES_EACH = 24
"""Levels, values, what they are added to and its squares in float64."""


@cache
def server(name: str) -> ServerLink:
    rng = np.random.default_rng(1)
    initial = {
        "w": rng.normal(size=(300, 400)).astype(np.float32),
        "b": np.zeros(300, np.float32),
        "n": np.array(0, np.int64),
    }
    limits = LinkSettings(max_update_norm=100.0)
    link = ServerLink(Session(MANIFEST, "run", 1, CODECS[name], CODECS["none"], limits), initial, 1)
    link.begin()
    return link


def read(name: str, data: bytes) -> None:
    """Give a packet to the server as the reply of a client that has not answered yet."""
    link = server(name)
    _, fields = link.downlink("0")
    link._answered.clear()
    received = link.uplink("0", data, Reply(fields.exchange, link.version), 1)
    assert all(np.isfinite(received.tensor(spec.name)).all() for spec in MANIFEST.specs)


def genuine(name: str) -> list[bytes]:
    """Return a reply with side information, and one without."""
    link, codec = server(name), CODECS[name]
    context = link.session.context("uplink", 1, link.public, "0")
    rng = np.random.default_rng(2)
    change = {n: np.asarray(v * 0, v.dtype) for n, v in link.public.items()}
    change["w"] = rng.normal(scale=0.01, size=(300, 400)).astype(np.float32)
    whole = {n: np.asarray(link.public[n] + v, v.dtype) for n, v in change.items()}
    payload = codec.encode(change if codec.mode == "delta" else whole, context)
    sides = b"", write_side({"gram": np.ones((30, 30), np.float16)})
    packets = (
        Packet(codec.id, link.session.digest, 1, payload, link.version, side=side) for side in sides
    )
    return [packet.to_bytes() for packet in packets]


def samples(name: str) -> list[Sample]:
    reader = Reader(lambda data: read(name, data), BYTES_EACH * MANIFEST.elements)
    return [Sample(data, reader) for data in genuine(name)]


@pytest.mark.parametrize("name", CODECS)
def test_a_damaged_reply_takes_no_more_memory_than_the_manifest_allows(name: str) -> None:
    outcomes = attack(f"reply {name}", samples(name), 150, damage=damaged_inside)
    assert outcomes["refused"] > 50


CHILD = """
import random, resource, sys, threading
from pathlib import Path
from fedcomp.errors import BitstreamError
from tests.link.test_hostile_replies import BYTES_EACH, MANIFEST, TABLES, genuine, read
from tests.wire.test_hostile import damaged_inside

name, room = sys.argv[1], int(sys.argv[2])
threading.stack_size(1 << 18)  # threads keep their stacks for a moment after they are joined
packets = genuine(name)
for packet in packets:
    read(name, packet)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + room
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
refused = 0
for number in range(300):
    rng = random.Random(f"child {name} {number}")
    data = damaged_inside(rng, rng.choice(packets), rng.choice(packets))
    try:
        read(name, data)
    except BitstreamError:
        refused += 1
print(refused)
"""


@pytest.mark.parametrize("name", ["golomb", "fsfl", "powersgd"])
def test_a_server_with_little_memory_left_reads_damaged_replies(name: str) -> None:
    """The system gives no more than the limit, whoever asks: numba and zlib, too."""
    room = 4 * BYTES_EACH * MANIFEST.elements + TABLES  # the allocator takes more than it needs
    done = subprocess.run(
        [sys.executable, "-c", CHILD, name, str(room)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
