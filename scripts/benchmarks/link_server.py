"""A child process: the memory that rounds of a server take; clients answer from files.

Arguments: FOLDER PAYLOADS SITES ROUNDS [KEY=VALUE …], with a folder of the payloads of a round's
replies, the number of clients of which that many train, and settings as of `fedcomp`.
"""

from __future__ import annotations

import gc
import sys
from itertools import count
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from torch import nn

from fedcomp.checkpoint.files import Checkpoints
from fedcomp.config import compose_config
from fedcomp.link.history import cost
from fedcomp.link.ledger import Ledger
from fedcomp.link.server import ServerLink
from fedcomp.link.session import Session
from fedcomp.models.base import load_tensors, read_tensors
from fedcomp.report.observer import Observer
from fedcomp.runtime import return_freed_memory
from fedcomp.settings import Settings, parse
from fedcomp.wire import keys, private
from fedcomp.wire.fields import NO_EXCHANGE, Reply
from fedcomp.wire.packet import Packet, read_chain
from fedcomp.wire.records import blob_of, blob_record, downlink_fields, reply_record
from scripts.benchmarks.children import finish, fresh_peak, peak_bytes
from scripts.benchmarks.link_models import Subject, resnet
from strategies.build import build_strategy
from strategies.compressed import Compressed
from strategies.grid import CompressingGrid
from strategies.no_step import NoStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fedcomp.tensors import Tensors


class FileGrid(Grid):
    """Nodes that answer each message with the packet of a payload, read when it is fetched."""

    def __init__(self, nodes: int, payloads: list[Callable[[], bytes]]) -> None:
        self._nodes = nodes
        self._payloads = payloads
        self._requests: dict[str, tuple[Message, Reply, int]] = {}
        self._numbers = count(1)
        self._sent: dict[int, int] = {}
        self.session: Session | None = None
        self.sent_bytes = self.answered_bytes = 0

    def set_run(self, run: Any) -> None:
        """Need no run."""

    @property
    def run(self) -> Any:
        """There is none."""

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """Make a message."""
        return Message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return range(1, self._nodes + 1)

    def get_nodes(self) -> Any:
        """Say nothing of them."""
        return []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Take what a reply needs from each message and forget the rest, as a network would."""
        identifiers = []
        for message in messages:
            blob = blob_of(message.content.array_records[keys.ARRAYS])
            fields, number = downlink_fields(message.content.config_records[keys.FIELDS])
            self._sent[id(blob)] = len(blob)
            version = read_chain(blob)[-1].version
            claims = Reply(fields.exchange, version, NO_EXCHANGE, b"")
            private.set_message_id(message, str(next(self._numbers)))
            message.content = RecordDict()
            self._requests[message.metadata.message_id] = message, claims, number
            identifiers.append(message.metadata.message_id)
        self.sent_bytes = sum(self._sent.values())
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return all replies at once."""
        self._sent.clear()
        wanted = [i for i in message_ids if i in self._requests]
        self.answered_bytes = 0
        return [self._answer(self._requests.pop(i), n) for n, i in enumerate(wanted)]

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002
    ) -> list[Message]:
        """Exchange messages."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, request: tuple[Message, Reply, int], index: int) -> Message:
        message, claims, number = request
        session = self.session
        assert session is not None  # noqa: S101
        payload = self._payloads[index]()
        codec = session.uplink.id
        blob = Packet(codec, session.digest, number, payload, claims.version).to_bytes()
        self.answered_bytes += len(blob)
        content = RecordDict(
            {
                keys.ARRAYS: blob_record(blob),
                keys.METRICS: MetricRecord({keys.TRAIN_LOSS: 1.0, keys.EXAMPLES: 100 + index}),
                keys.FIELDS: reply_record(claims),
            }
        )
        reply = Message(content, reply_to=message)
        private.set_message_id(reply, str(next(self._numbers)))
        return reply


class Packets(Observer):
    """Observes the bytes of packets that a server holds in a round: all kinds together."""

    def __init__(self, grid: FileGrid, link: ServerLink) -> None:
        self._grid = grid
        self._link = link
        self.most = 0

    def on_round(self, result: Any) -> None:  # noqa: ARG002
        """Add up replies, the different messages to clients, and the history."""
        history = cost(self._link.broadcast.history.packets)
        self.most = max(self.most, self._grid.sent_bytes + self._grid.answered_bytes + history)


def serve(
    subject: Subject, payloads: list[Callable[[], bytes]], settings: Settings, folder: Path
) -> int:
    """Run rounds as `strategies.app.serve` does, without the data set; return the packets' bytes.

    As in a run the module stays in memory, into which each new model is loaded.
    """
    grid = FileGrid(settings.clients, payloads)
    codecs = settings.uplink, settings.downlink
    grid.session = Session(subject.manifest, "benchmark", settings.seed, *codecs, settings.link)
    link, ledger = ServerLink(grid.session, read_tensors(subject.module)), Ledger(subject.manifest)
    sites = {node: str(node - 1) for node in grid.get_node_ids()}
    packets = Packets(grid, link)

    def load(model: Tensors) -> dict[str, float]:
        load_tensors(subject.module, model)
        return {"accuracy": 0.0}

    Compressed(
        build_strategy(settings),
        grid=CompressingGrid(grid, link, ledger, sites, Event()),
        link=link,
        ledger=ledger,
        step=NoStep().create(None),  # type: ignore[arg-type]
        settings=settings,
        evaluate=load,
        observers=[packets],
        checkpoints=Checkpoints(folder, "benchmark", {}),
    ).start("accuracy")
    return packets.most


def main() -> None:
    folder, place, sites, rounds, *overrides = sys.argv[1:]
    files = sorted(Path(place).iterdir())
    words = [
        f"clients={sites}",
        f"fraction={len(files) / int(sites)}",
        f"rounds={rounds}",
        "checkpoint_every=0",
    ]
    settings = parse(compose_config([*words, *overrides]))
    private.assume_identity()
    return_freed_memory()
    small = Subject.of("small", nn.Linear(64, 64))
    warm = settings.uplink.encode(small.update(1), _context(small, settings))
    serve(small, [lambda: warm] * len(files), settings, Path(folder))
    gc.collect()
    before = fresh_peak()
    packets = serve(resnet(), [path.read_bytes for path in files], settings, Path(folder))
    result = {"bytes": peak_bytes() - before, "packet_bytes": packets}
    finish(Path(folder), result)


def _context(subject: Subject, settings: Settings) -> Any:
    session = Session(subject.manifest, "", 1, settings.uplink, settings.downlink)
    return session.context("uplink", 1, {})


if __name__ == "__main__":
    main()
