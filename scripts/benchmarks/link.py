"""The link: codecs and exchanges of whole models, the server's memory, and many virtual clients."""

from __future__ import annotations

import csv
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from fedcomp.cli import prepare
from fedcomp.codecs.base import Context
from fedcomp.config import compose_config
from fedcomp.engines.logs import logging_to
from fedcomp.link.history import cost
from fedcomp.link.server import ServerLink
from fedcomp.runtime import Hooks, limit_threads
from fedcomp.settings import Job
from scripts.benchmarks.children import run_module
from scripts.benchmarks.link_exchange import UPLINK, codec_rows, exchange_rows, store_rows
from scripts.benchmarks.link_models import resnet, vgg11s
from scripts.benchmarks.rows import Row, bounded
from strategies import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.benchmarks.link_models import Subject

_RESNET_SECONDS, _VGG11S_SECONDS = 1.0, 0.06
_MODELS = 6
_CLIENTS, _MEMORY_ROUNDS = 10, 3
_VIRTUAL, _ROUNDS, _RUNS = 1000, 50, 3
_HISTORY_BYTES = 6000
_DOWNLINK = ("codec@downlink=uniform", "downlink.bits=4")


def rows() -> Iterator[Row]:
    """Measure one row after the other."""
    limit_threads(1)
    large = resnet()
    yield from codec_rows(large, _RESNET_SECONDS)
    yield from codec_rows(vgg11s(), _VGG11S_SECONDS)
    large = resnet()  # the first one has been trained
    yield from exchange_rows(large)
    yield from store_rows(large)
    yield from server_memory(large)
    yield from virtual_clients()


def server_memory(subject: Subject) -> Iterator[Row]:
    """Peak of the resident memory that rounds add, packets aside, in models of float32.

    It counts all that a server holds from its imports on: the module that evaluates and version 0
    too.  Packets are the replies', those of all different messages to clients, and the history.
    """
    context = Context(subject.manifest, 1, 1, "uplink")
    with tempfile.TemporaryDirectory() as folder:
        for client in range(_CLIENTS):
            payload = UPLINK.encode(subject.update(client), context)
            (Path(folder) / f"{client:02}").write_bytes(payload)
        for strategy, sites, bound in (
            ("fedavg", _CLIENTS, _MODELS),
            ("fedavg", _VIRTUAL, _MODELS),
            ("fedmedian", _CLIENTS, _CLIENTS + _MODELS),
        ):
            words = (
                folder,
                str(sites),
                str(_MEMORY_ROUNDS),
                "method=fedavg",
                f"strategy={strategy}",
            )
            found = run_module("link_server", *words, "codec@uplink=topk", *_DOWNLINK).written
            taken = found["bytes"] - found["packet_bytes"]
            size = sum(value.nbytes for value in subject.initial.values())
            name = f"server's memory, {subject.name}, {strategy}, {_CLIENTS} of {sites} clients"
            remark = f"and {found['packet_bytes'] / 1e6:.1f} MB of packets; a model has"
            remark += f" {size / 1e6:.1f} MB; peak over {_MEMORY_ROUNDS} rounds, one run"
            yield bounded(name, "models", [taken / size], bound, remark)


def virtual_clients() -> Iterator[Row]:
    """Wall time, history and bytes where each client takes part in few rounds."""
    runs = [_virtual_run() for _ in range(_RUNS)]
    name = f"inline, {_VIRTUAL} clients, 5 % a round, {_ROUNDS} rounds"
    yield Row(f"{name}: wall time", "s", [run.seconds for run in runs], remark=runs[0].account)
    remark = f"at most {runs[0].most_packets} packets; the largest of all rounds"
    most = [run.most_history for run in runs]
    yield bounded(f"{name}: history", "B", most, _HISTORY_BYTES, remark)


class _VirtualRun:
    """One run's seconds, the largest history of its server, and its bytes."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.most_history = self.most_packets = 0
        self.account = ""

    def link(self, *arguments: object) -> ServerLink:
        """Return a server link whose history is watched."""
        watch = self

        class Watched(ServerLink):
            def publish(self, *arguments: object, **options: object) -> None:
                super().publish(*arguments, **options)  # type: ignore[arg-type]
                packets = self.broadcast.history.packets
                watch.most_history = max(watch.most_history, cost(packets))
                watch.most_packets = max(watch.most_packets, len(packets))

        return Watched(*arguments)  # type: ignore[arg-type]

    def read(self, file: Path) -> None:
        """Sum the bytes of packets by direction, purpose and kind."""
        sums: Counter[str] = Counter()
        numbers: Counter[str] = Counter()
        with file.open(newline="", encoding="utf-8") as lines:
            for entry in csv.DictReader(lines):
                key = f"{entry['direction']} {entry['purpose']} {entry['kind']}"
                sums[key] += int(entry["packet_bytes"])
                numbers[key] += 1
        self.account = ", ".join(f"{k} {numbers[k]}×: {sums[k]} B" for k in sorted(sums))


def _virtual_run() -> _VirtualRun:
    config = compose_config(
        [
            *("engine=inline", "method=fedavg", "model=mlp", "model.hidden=[32]", "train.steps=1"),
            *("codec@uplink=topk", *_DOWNLINK, f"link.history_bytes={_HISTORY_BYTES}"),
            *(f"clients={_VIRTUAL}", "fraction=0.05", f"rounds={_ROUNDS}"),
        ]
    )
    run = _VirtualRun()
    with patch.object(app, "ServerLink", run.link), tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        began = time.perf_counter()
        with logging_to(folder / "run.log", verbose=False):
            setup = prepare(config)
            job = Job(config, "benchmark", str(folder / "run"))
            job.settings.engine.run(job, setup, Hooks())
        run.seconds = time.perf_counter() - began
        run.read(folder / "run" / "packets.csv")
    return run
