"""Σ sent + residual + pending = Σ trained, whatever happens to messages, clients and the server."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fedcomp.codecs.base import Codec
from fedcomp.codecs.ecq import Ecq
from fedcomp.codecs.nnc import Nnc
from fedcomp.codecs.schedule import Schedule
from fedcomp.codecs.scheduled import Scheduled
from fedcomp.codecs.subspace import Subspace
from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import BitstreamError, LinkError, StaleError
from fedcomp.link.client import ClientLink
from fedcomp.link.file_store import FileStateStore
from fedcomp.link.server import ServerLink
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import StateStore
from fedcomp.link.update import Update
from fedcomp.tensors import Tensors, add
from fedcomp.wire.fields import Downlink, Reply
from tests.common import equal
from tests.link.common import MANIFEST, model, session

SITES = "abc"
PARAMETERS = ("w", "b")


class Federation(RuleBasedStateMachine):
    """A server, three clients, and a network that loses, delays and doubles what it likes."""

    up: Codec = Nnc(qp=None, step=0.5, temporal=True)
    down: Codec = Uniform(bits=3)
    background = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store: StateStore = FileStateStore(Path(self.folder.name))
        limits = LinkSettings(verify=True, history_versions=3)
        agreed = session(self.up, self.down, link=limits)
        self.agreed = replace(agreed, background=self.background)
        self.server = ServerLink(self.agreed, model(0), start=1)
        self.saved = self.server.save()
        self.saved_sent: dict[str, Tensors] = {}
        self.starts = self.round = 1
        self.trained = {site: zeros() for site in SITES}
        self.sent = {site: zeros() for site in SITES}
        self.accepted: dict[str, Tensors] = {}
        self.delayed: list[tuple[str, bytes, Reply]] = []
        self.messages: list[tuple[str, bytes, Downlink]] = []
        self.working: list[ClientLink] = []
        self.server.begin()
        self.checkpoint()

    def checkpoint(self) -> None:
        self.saved = self.server.save()
        self.saved_sent = {site: dict(total) for site, total in self.sent.items()}

    def link(self, site: str) -> ClientLink:
        return ClientLink(self.agreed, site, self.store, lambda: model(0))

    def opened(self, site: str) -> ClientLink:
        """Deliver the newest model; a refused packet is answered with a keyframe."""
        link = self.link(site)
        for _ in range(2):
            sent, fields = self.server.downlink(site)
            self.messages.append((site, sent.blob, fields))
            try:
                link.open(sent.blob, fields, self.round)
            except LinkError:
                self.server.forget(site)
                continue
            break
        assert equal(link.received, self.server.public)
        return link

    @rule(site=st.sampled_from(SITES), lost=st.booleans(), seed=st.integers(0, 99))
    def train(self, site: str, lost: bool, seed: int) -> None:
        self.finish(self.opened(site), lost, seed)

    @rule(site=st.sampled_from(SITES))
    def begin_to_train(self, site: str) -> None:
        """Another worker may train for the same site meanwhile, or evaluate."""
        self.working.append(self.opened(site))

    @precondition(lambda self: self.working)
    @rule(index=st.integers(0, 99), lost=st.booleans(), seed=st.integers(0, 99))
    def end_training(self, index: int, lost: bool, seed: int) -> None:
        self.finish(self.working.pop(index % len(self.working)), lost, seed)

    def finish(self, link: ClientLink, lost: bool, seed: int) -> None:
        site = link.site
        if link.answered is not None:
            blob = link.answered.blob  # the message came twice
        else:
            rng = np.random.default_rng(seed)
            change = {name: rng.normal(size=v.shape).astype(v.dtype) for name, v in zeros().items()}
            start = link.background() if self.background else link.received
            target = add(start, change)
            symbols, _ = link.quantise(target)
            _, answered = self.store.seen(site) or (b"", False)
            try:
                blob = link.reply(Update(symbols, target))
            except StaleError:
                return
            if not answered:
                moved = {name: target[name] - start[name] for name in PARAMETERS}
                self.trained[site] = plus(self.trained[site], moved)
        if lost:
            self.delayed.append((site, blob, link.reply_fields()))
        else:
            self.arrive(site, blob, link.reply_fields())

    def arrive(self, site: str, blob: bytes, claims: Reply) -> None:
        try:
            received = self.server.uplink(site, blob, claims, self.round)
        except BitstreamError:
            return
        assert site not in self.accepted
        self.server.confirm(site, claims)
        self.accepted[site] = {n: received.tensor(n) - self.server.exact[n] for n in PARAMETERS}

    @precondition(lambda self: self.delayed)
    @rule(index=st.integers(0, 99), keep=st.booleans())
    def arrive_late_or_twice(self, index: int, keep: bool) -> None:
        site, blob, claims = self.delayed[index % len(self.delayed)]
        if not keep:
            self.delayed.remove((site, blob, claims))
        self.arrive(site, blob, claims)

    @rule(site=st.sampled_from(SITES))
    def evaluate(self, site: str) -> None:
        self.opened(site)

    @precondition(lambda self: self.messages)
    @rule(index=st.integers(0, 99))
    def deliver_an_old_message_again(self, index: int) -> None:
        site, blob, fields = self.messages[index % len(self.messages)]
        try:
            self.link(site).open(blob, fields, self.round)
        except LinkError:
            return

    @rule(refused=st.sets(st.sampled_from(SITES), max_size=1))
    def end_of_round(self, refused: set[str]) -> None:
        used = [site for site in self.accepted if site not in refused]
        change = zeros()
        for site in used:
            self.sent[site] = plus(self.sent[site], self.accepted[site])
            change = plus(change, {n: v / len(SITES) for n, v in self.accepted[site].items()})
        exact = {**self.server.exact, **add({n: self.server.exact[n] for n in change}, change)}
        self.server.publish(exact, self.round, used)
        self.round += 1
        self.next_exchange()
        self.checkpoint()

    @rule()
    def end_without_aggregate(self) -> None:
        self.next_exchange()

    def next_exchange(self) -> None:
        self.accepted.clear()
        self.server.begin()

    @rule()
    def server_restarts(self) -> None:
        self.starts += 1
        self.server = ServerLink(self.agreed, model(0), start=self.starts)
        self.server.load(*self.saved)
        self.sent = {site: dict(total) for site, total in self.saved_sent.items()}
        self.next_exchange()

    @rule(site=st.sampled_from(SITES))
    def client_restarts_without_its_model(self, site: str) -> None:
        model_files = [
            path
            for path in (Path(self.folder.name) / "sites" / site).glob("*.safetensors")
            if "-" not in path.name
        ]
        for path in model_files:
            path.unlink()

    @invariant()
    def nothing_is_lost(self) -> None:
        for site in SITES:
            state = self.store.load(site)
            kept = zeros()
            if state is not None:
                kept = plus(kept, state.residual.tensors)
                waiting = state.pending
                used = self.server.downlink(site)[1].used
                if waiting is not None and waiting.exchange != used:
                    kept = plus(kept, waiting.decoded.tensors)
            total = plus(self.sent[site], kept)
            for name in PARAMETERS:
                np.testing.assert_allclose(total[name], self.trained[site][name], atol=2e-4)

    def teardown(self) -> None:
        self.folder.cleanup()


class Backgrounds(Federation):
    """Clients train what was received and all that their levels have left out so far."""

    up = down = Ecq(gamma=0.5)
    background = True


class BackgroundsOfDifferences(Federation):
    """The same where differences are sent."""

    up, down = Uniform(bits=3), Ecq(bits=3)
    background = True


class Growing(Federation):
    """Differences lie in a subspace of 4, 8 and then 16 dimensions, of which a model has 13."""

    up = down = Scheduled.of(
        Subspace(dimensions=4, whole=0), Schedule("dimensions", 4, 16, "doubling", every=3)
    )


def zeros() -> Tensors:
    return {n: np.zeros(MANIFEST.by_name[n].shape) for n in PARAMETERS}


def plus(left: Tensors, right: Tensors) -> Tensors:
    return {name: np.asarray(left[name] + right.get(name, 0)) for name in left}


TestFederation = Federation.TestCase
TestBackgrounds = Backgrounds.TestCase
TestBackgroundsOfDifferences = BackgroundsOfDifferences.TestCase
TestGrowing = Growing.TestCase
TestFederation.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
for found in (TestBackgrounds, TestBackgroundsOfDifferences, TestGrowing):
    found.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
