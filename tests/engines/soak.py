"""Long runs in bad weather: clients that fail in every way, and an account of what they trained.

A client's fate in a round is drawn from the seed: it answers, it dies before it opens its message,
dies after it saved its answer, answers in a later round, answers twice, or has lost its state.
"""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import fedcomp.engines.inline as inline
import strategies.grid as grid_module
from fedcomp.link.client import ClientLink
from fedcomp.link.server import ServerLink
from fedcomp.link.stores import MemoryStateStore
from fedcomp.link.update import Update
from fedcomp.report.observer import Observer
from fedcomp.tensors import Tensors
from fedcomp.wire import keys
from tests.common import run_inline

FATES = {"dies": 0.04, "dies after saving": 0.04, "late": 0.04, "twice": 0.04, "forgets": 0.02}
WORDS = (
    *("method=fedavg", "engine=inline", "engine.round_timeout=0.1", "model=mlp"),
    *("codec@uplink=topk", "uplink.density=0.1", "codec@downlink=topk", "downlink.density=0.3"),
    *("link.history_versions=20", "train.lr=0.1", "train.batch_size=16"),
)
MEGABYTE = 1e6

Sums = defaultdict[str, dict[str, Any]]


class Account:
    """By client, what it trained, what the server used of it, and what was lost with its states.

    Attributes
    ----------
    store
        Where the clients of the run keep their states.
    """

    def __init__(self) -> None:
        self.trained: Sums = defaultdict(dict)
        self.sent: Sums = defaultdict(dict)
        self.lost: Sums = defaultdict(dict)
        self.store = MemoryStateStore()
        self.server: ServerLink | None = None

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Watch the links of all runs in this process."""
        reply, acknowledge = ClientLink.reply, ServerLink._acknowledge

        def replied(link: ClientLink, update: Update, note: str = "") -> bytes:
            blob = reply(link, update, note)
            received = link.received
            add(self.trained[link.site], {n: v - received[n] for n, v in update.target.items()})
            return blob

        def acknowledged(server: ServerLink, used: Iterable[str]) -> None:
            names = [s.name for s in server.session.manifest.specs if s.is_parameter]
            self.server = server
            used = list(used)
            for site in used:
                found = server._answered[site]
                add(self.sent[site], {n: found.tensor(n) - server.exact[n] for n in names})
            acknowledge(server, used)

        patch.setattr(ClientLink, "reply", replied)
        patch.setattr(ServerLink, "_acknowledge", acknowledged)
        patch.setattr(inline, "MemoryStateStore", lambda: self.store)

    def forget(self, site: str) -> None:
        """Let the state of a client be lost, and note what was in it."""
        add(self.lost[site], self.kept(site))
        self.store._states.pop(site, None)

    def kept(self, site: str) -> dict[str, Any]:
        """Return what a client has still to send: residual, and a reply that was never used."""
        state, total = self.store.load(site), dict[str, Any]()
        if state is None:
            return total
        add(total, state.residual.tensors)
        used = self.server._used.get(site) if self.server is not None else None
        if state.pending is not None and state.pending.exchange != used:
            add(total, state.pending.decoded.tensors)
        return total

    def gap(self) -> float:
        """Return the largest |Σ sent + kept + lost − Σ trained| of any weight of any client."""
        largest = 0.0
        for site, trained in self.trained.items():
            total = dict[str, Any]()
            for part in (self.sent[site], self.kept(site), self.lost[site]):
                add(total, part)
            gaps = (np.abs(total.get(n, 0) - v).max(initial=0) for n, v in trained.items())
            largest = max(largest, *map(float, gaps))
        return largest


def add(total: dict[str, Any], more: Tensors) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value.astype(np.float64)


class Clock:
    """Time that passes while somebody waits for it, and never else."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@dataclass
class Weather:
    """Decides each client's fate, and sees to it.

    Attributes
    ----------
    met
        How often each fate was met; of answers that come late or twice, how often they came.
    """

    account: Account
    seed: int
    rates: dict[str, float] = field(default_factory=lambda: FATES)
    met: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._seen: set[tuple[int, str]] = set()
        self._round = 0
        self._fates: dict[str, str] = {}
        self._held: dict[str, tuple[int, Any]] = {}

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Let all runs in this process be of this weather."""
        import clients.app as app_module

        make_app, make_grid = app_module.make_app, inline._grid

        def app(*arguments: Any) -> Any:
            return self._client(make_app(*arguments))

        def grid(*arguments: Any) -> Any:
            made = make_grid(*arguments)
            made.pull_messages = self._network(made.pull_messages)
            return made

        patch.setattr(app_module, "make_app", app)
        patch.setattr(inline, "_grid", grid)
        patch.setattr(grid_module, "time", Clock())

    def _client(self, app: Any) -> Any:
        def answer(message: Any, context: Any) -> Any:
            if message.metadata.message_type != "train":
                return app(message, context)
            site = str(context.node_config["partition-id"])
            self._round = message.content[keys.FIELDS][keys.ROUND_FIELD]
            fate = self._fate(site)
            if fate == "forgets":
                self.account.forget(site)
                self.met[fate] += 1
            if fate == "dies":
                self.met[fate] += 1
                raise RuntimeError("the client died")
            reply = app(message, context)
            if fate == "dies after saving":
                self.met[fate] += 1
                raise RuntimeError("the client died while it answered")
            if keys.ARRAYS in reply.content:  # else it asks for a keyframe
                self._fates[message.metadata.message_id] = fate
            return reply

        return answer

    def _fate(self, site: str) -> str:
        """Draw once a round; a message that comes after a refusal is answered as usual."""
        if (self._round, site) in self._seen:
            return "answers"
        self._seen = {pair for pair in self._seen if pair[0] == self._round}
        self._seen.add((self._round, site))
        drawn = self._rng.random()
        for fate, rate in self.rates.items():
            if drawn < rate:
                return fate
            drawn -= rate
        return "answers"

    def _network(self, pull: Any) -> Any:
        def pulled(wanted: Iterable[str]) -> list[Any]:
            asked = list(wanted)
            found = [copied for reply in pull(asked) for copied in self._delivered(reply)]
            for name in asked:
                due, reply = self._held.get(name, (0, None))
                if reply is not None and self._round >= due:
                    del self._held[name]
                    self.met["late"] += 1
                    found.append(reply)
            return found

        return pulled

    def _delivered(self, reply: Any) -> Iterator[Any]:
        name = reply.metadata.reply_to_message_id
        fate = self._fates.pop(name, "answers")
        if fate == "late":
            self.met["not in time"] += 1
            self._held[name] = self._round + self._rng.randint(1, 5), reply
            return
        if fate == "twice":
            self.met[fate] += 1
            yield copy(reply)
        yield reply


@dataclass
class Gauge(Observer):
    """Watches memory and conservation while a run lasts.

    Attributes
    ----------
    resident, traced
        Megabytes by round: of the process, and of what Python and numpy have allocated.
    gaps
        By round, how far the account is from being even.
    """

    account: Account
    every: int = 10
    resident: dict[int, float] = field(default_factory=dict)
    traced: dict[int, float] = field(default_factory=dict)
    gaps: dict[int, float] = field(default_factory=dict)

    def on_round(self, result: Any) -> None:
        if result.round % self.every:
            return
        gc.collect()
        self.resident[result.round] = psutil.Process().memory_info().rss / MEGABYTE
        if tracemalloc.is_tracing():
            self.traced[result.round] = tracemalloc.get_traced_memory()[0] / MEGABYTE
        self.gaps[result.round] = self.account.gap()


@contextmanager
def tracing(*, wanted: bool) -> Iterator[None]:
    if wanted:
        tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def soak(
    folder: Path, *words: str, rates: dict[str, float], traced: bool = False
) -> tuple[Weather, Gauge]:
    """Run a job in some weather; return what happened."""
    account = Account()
    weather, gauge = Weather(account, 1, rates), Gauge(account)
    with pytest.MonkeyPatch.context() as patch, tracing(wanted=traced):
        account.install(patch)
        weather.install(patch)
        run_inline(folder, *words, quick=WORDS, observers=[gauge])
    return weather, gauge
