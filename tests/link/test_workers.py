from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import StaleError
from fedcomp.link.client import ClientLink
from fedcomp.link.file_store import FileStateStore
from fedcomp.link.state import ClientState
from fedcomp.link.stores import StateStore
from fedcomp.link.update import Update
from tests.common import equal
from tests.link.common import (
    accept,
    client,
    deliver,
    files,
    model,
    publish,
    serve,
    session,
    train,
    whole,
)

AGREED = session(up=Uniform(bits=3))
SHORT, LONG = 0.3, 30.0

WORKER = """
import sys
from pathlib import Path
from fedcomp.errors import StaleError
from fedcomp.link.file_store import FileStateStore
from fedcomp.wire.fields import Downlink
from tests.link.common import client, train
from tests.link.test_workers import AGREED

store = FileStateStore(Path(sys.argv[1]))
if sys.argv[2] == "hold":
    with store.locked("0"):
        print("ready", flush=True)
        sys.stdin.readline()
else:
    link = client(AGREED, store)
    link.open(bytes.fromhex(sys.argv[2]), Downlink(bytes.fromhex(sys.argv[3])), 1)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print(train(link, 9)[0].hex())
    except StaleError as error:
        print(error)
"""


class Worker:
    """Another process; `end` lets it go on and returns what it says."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-c", WORKER, str(folder), *arguments]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def end(self) -> str:
        out, _ = self._process.communicate("\n", LONG)
        assert self._process.returncode == 0
        return out.strip()


class Watched:
    """A store that can only be used by who holds the lock."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._held: set[str] = set()
        self.uses = 0

    @contextmanager
    def locked(self, site: str) -> Iterator[None]:
        with self._store.locked(site):
            self._held.add(site)
            yield
            self._held.discard(site)

    def seen(self, site: str) -> tuple[bytes, bool] | None:
        self._used(site)
        return self._store.seen(site)

    def load(self, site: str) -> ClientState | None:
        self._used(site)
        return self._store.load(site)

    def save(self, site: str, state: ClientState) -> None:
        self._used(site)
        self._store.save(site, state)

    def _used(self, site: str) -> None:
        assert site in self._held
        self.uses += 1


def test_every_use_of_the_store_is_under_the_lock_of_its_site(store: StateStore) -> None:
    watched, server = Watched(store), serve(AGREED)
    for number in (1, 2):
        sent, fields = server.downlink("0")
        for _ in range(2):  # the second time it is a repeated message
            link = client(AGREED, watched)
            link.open(sent.blob, fields, number)
            if link.answered is None:
                train(link, number)
        server.begin()
    assert watched.uses > 8


@pytest.mark.parametrize("newer_answers", [False, True])
@pytest.mark.parametrize("rounds_before", [0, 1])
def test_an_answer_after_a_newer_message_is_stale_and_changes_nothing(
    store: StateStore, tmp_path: Path, newer_answers: bool, rounds_before: int
) -> None:
    server = serve(AGREED)
    for number in range(rounds_before):  # leaves a residual
        link = client(AGREED, store)
        deliver(server, link, number)
        accept(server, link, train(link, number)[0], number)
        publish(server, server.exact, number, "0")
    older, newer = client(AGREED, store), client(AGREED, store)
    deliver(server, older, 5)
    server.begin()
    deliver(server, newer, 6)
    blob, seen = train(newer, 3) if newer_answers else (b"", {})
    state, before = store.load("0"), files(tmp_path)
    with pytest.raises(StaleError, match="its answer comes too late"):
        train(older, 2)
    after = store.load("0")
    assert state is not None
    assert after is not None
    assert files(tmp_path) == before
    assert (after.exchange, after.version) == (state.exchange, state.version)
    assert (after.pending is None) == (state.pending is None)
    assert equal(after.residual.tensors, state.residual.tensors)
    if not newer_answers:
        blob, seen = train(newer, 3)
    assert equal(whole(accept(server, newer, blob, 6)), seen)


def test_of_two_workers_with_one_message_the_second_gives_the_firsts_answer(
    store: StateStore, tmp_path: Path
) -> None:
    server, workers = serve(AGREED), [client(AGREED, store) for _ in range(2)]
    sent, fields = server.downlink("0")
    for link in workers:
        link.open(sent.blob, fields, 1)
        assert link.answered is None
    symbols, seen = workers[0].quantise(model(3))
    blob = workers[0].reply(Update(symbols, model(3)), "metrics of the first")
    before, state = files(tmp_path), store.load("0")
    symbols, _ = workers[1].quantise(model(4))
    assert workers[1].reply(Update(symbols, model(4)), "metrics of the second") == blob
    assert workers[1].reply_fields() == workers[0].reply_fields()
    after = store.load("0")
    assert state is not None
    assert after is not None
    assert after.pending is not None
    assert after.pending.note == "metrics of the first"
    assert equal(after.residual.tensors, state.residual.tensors)
    assert files(tmp_path) == before
    assert equal(whole(accept(server, workers[1], blob, 1)), seen)


def test_a_worker_in_another_process_is_too_late_or_gives_the_firsts_answer(
    tmp_path: Path,
) -> None:
    server, store = serve(AGREED), FileStateStore(tmp_path)
    sent, fields = server.downlink("0")
    arguments = sent.blob.hex(), fields.exchange.hex()
    same, late = Worker(tmp_path, *arguments), Worker(tmp_path, *arguments)
    link = client(AGREED, store)
    link.open(sent.blob, fields, 1)
    blob, _ = train(link, 3)
    assert same.end() == blob.hex()
    server.begin()
    deliver(server, client(AGREED, store), 2)
    before = files(tmp_path)
    assert "its answer comes too late" in late.end()
    assert files(tmp_path) == before


def started(site: str, store: StateStore, events: list[str]) -> tuple[ClientLink, Thread]:
    """Let a thread open a message and answer it."""
    server, link = serve(AGREED), client(AGREED, store, site)

    def work() -> None:
        deliver(server, link, 1)
        events.append("open")
        train(link, 1)
        events.append("reply")

    thread = Thread(target=work, daemon=True)
    thread.start()
    return link, thread


def test_a_thread_waits_for_who_holds_the_lock(store: StateStore) -> None:
    events: list[str] = []
    with store.locked("0"):
        _, thread = started("0", store, events)
        thread.join(SHORT)
        assert events == []
    thread.join(LONG)
    assert events == ["open", "reply"]


def test_a_process_holds_the_lock_of_one_site_against_all_others(tmp_path: Path) -> None:
    store, events, others = FileStateStore(tmp_path), list[str](), list[str]()
    holder = Worker(tmp_path, "hold")
    _, waiting = started("0", store, events)
    _, free = started("1", store, others)
    free.join(LONG)
    assert others == ["open", "reply"]
    waiting.join(SHORT)
    assert events == []
    holder.end()
    waiting.join(LONG)
    assert events == ["open", "reply"]


def test_a_lock_is_let_go_after_an_error(store: StateStore) -> None:
    free = Event()

    def other() -> None:
        with store.locked("0"):
            free.set()

    def fail() -> None:
        with store.locked("0"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    Thread(target=other, daemon=True).start()
    assert free.wait(LONG)
