"""Seconds of codecs alone, and of whole exchanges between the two ends of a link."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from fedcomp.codecs.base import Context
from fedcomp.codecs.topk import TopK
from fedcomp.codecs.uniform import Uniform
from fedcomp.link.client import ClientLink
from fedcomp.link.file_store import FileStateStore
from fedcomp.link.server import ServerLink
from fedcomp.link.session import Session
from fedcomp.link.state import ClientState
from fedcomp.link.update import Update
from fedcomp.tensors import version_of
from scripts.benchmarks.link_models import CLIENT_IMAGES, MEASURED_IMAGES
from scripts.benchmarks.rows import Row, bounded
from scripts.benchmarks.timing import REPEATS, in_turns, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.benchmarks.link_models import Subject

UPLINK, DOWNLINK = TopK(density=0.01), Uniform(bits=4)
_SITES, _VERSIONS = 1000, 3


def codec_rows(subject: Subject, bound: float) -> Iterator[Row]:
    """Time selection, encoding and decoding of one update, beside its training."""
    update = subject.update(1)
    context = Context(subject.manifest, 1, 1, "uplink")
    payload = UPLINK.encode(update, context)
    encode, decode = in_turns(
        timed(lambda: UPLINK.encode(update, context)),
        timed(lambda: UPLINK.decode(payload, context)),
    )
    spent = [there + back for there, back in zip(encode, decode, strict=True)]
    (epochs,) = in_turns(subject.epoch_seconds)
    name = f"{subject.name}, top-k 1 %, cabac"
    remark = f"{subject.manifest.parameters} parameters, {len(payload)} B; one thread;"
    remark += f" {median(encode):.3f} s of it encode"
    yield bounded(f"{name}: encode and decode", "s", spent, bound, remark)
    share = [100 * value / median(epochs) for value in spent]
    remark = f"of {median(epochs):.2f} s, an epoch over {CLIENT_IMAGES} images; the share of a"
    remark += f" training round is computed from training time measured on {MEASURED_IMAGES} images"
    yield Row(f"{name}: share of training", "%", share, remark=remark)


def exchange_rows(subject: Subject) -> Iterator[Row]:
    """Both ends' work in one exchange, each packet bringing the client to the next version."""
    spent: defaultdict[str, list[float]] = defaultdict(list)
    session = Session(subject.manifest, "benchmark", 1, UPLINK, DOWNLINK)
    server = ServerLink(session, subject.initial, 1)
    names = list(subject.manifest.by_name)
    with tempfile.TemporaryDirectory() as folder:
        store = FileStateStore(Path(folder))
        for number in range(1, REPEATS + 2):
            server.begin()
            clock = _Clock(spent)
            sent, fields = server.downlink("0")
            clock.lap("downlink")
            client = ClientLink(session, "0", store, lambda: subject.initial)
            clock.skip()
            client.open(sent.blob, fields, number)
            clock.lap("open")
            trained = subject.trained(client.received, number)
            clock.skip()
            symbols, _ = client.quantise(trained)
            clock.lap("quantise")
            blob = client.reply(Update(symbols, trained))
            claims = client.reply_fields()
            clock.lap("reply")
            received = server.uplink("0", blob, claims, number)
            server.confirm("0", claims)
            clock.lap("uplink")
            model = {name: received.tensor(name) for name in names}
            clock.lap("tensors")
            server.publish(model, number, ["0"])
            clock.lap("publish")
    yield _total(f"{subject.name}, client's exchange", spent, ("open", "quantise", "reply"))
    parts = ("uplink", "tensors", "publish", "downlink")
    yield _total(f"{subject.name}, server's exchange", spent, parts)


def store_rows(subject: Subject) -> Iterator[Row]:
    """Files of models on the disk while many virtual clients hold some versions, then one."""
    models = [subject.initial]
    for seed in range(1, _VERSIONS):
        models.append(subject.trained(models[-1], seed))
    states = [ClientState(version_of(model), model) for model in models]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        store = FileStateStore(folder)
        for site in range(_SITES):
            store.save(str(site), states[site % _VERSIONS])
        name = f"{_SITES} clients' models on disk"
        yield _files(f"{name}: {_VERSIONS} versions held", folder, _VERSIONS)
        began = time.perf_counter()
        for site in range(_SITES):
            store.save(str(site), states[-1])
        spent = (time.perf_counter() - began) / _SITES
        remark = f"{1e3 * spent:.2f} ms a save"
        yield _files(f"{name}: all at the newest", folder, 1, remark)


class _Clock:
    """Adds the time since the last call to a list by name."""

    def __init__(self, spent: defaultdict[str, list[float]]) -> None:
        self._spent = spent
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        self._spent[name].append(time.perf_counter() - self._last)
        self.skip()

    def skip(self) -> None:
        self._last = time.perf_counter()


def _total(name: str, spent: defaultdict[str, list[float]], parts: tuple[str, ...]) -> Row:
    """Return the sum of some parts of each exchange; the first one is not counted."""
    laps = {part: spent[part][1:] for part in parts}
    remark = ", ".join(f"{part} {median(values):.3f}" for part, values in laps.items())
    total = [sum(values) for values in zip(*laps.values(), strict=True)]
    return Row(name, "s", total, remark=f"{remark}; uniform 4 bits down")


def _files(name: str, folder: Path, bound: int, remark: str = "") -> Row:
    """Count files, not their names: links of sites to a shared copy are none of their own."""
    found = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*.safetensors")}
    size = f"{sum(found.values()) / 1e6:.1f} MB"
    return bounded(name, "files", [len(found)], bound, f"{size}; {remark}" if remark else size)
