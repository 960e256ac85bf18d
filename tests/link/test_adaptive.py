from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedcomp.codecs.base import Codec
from fedcomp.codecs.mixed import Mixed, Part
from fedcomp.codecs.nnc import Nnc
from fedcomp.codecs.powersgd import PowerSgd
from fedcomp.codecs.randk import RandK
from fedcomp.codecs.schedule import Schedule
from fedcomp.codecs.scheduled import Scheduled
from fedcomp.codecs.uniform import Uniform
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError
from fedcomp.link.client import ClientLink
from fedcomp.link.plateau import Plateau
from fedcomp.link.server import ServerLink
from fedcomp.link.session import Session
from fedcomp.link.stores import MemoryStateStore, StateStore
from fedcomp.tensors import Manifest
from fedcomp.wire.packet import read_chain
from tests.common import equal, read_csv, run_inline
from tests.link.common import (
    BIG,
    accept,
    answer,
    big,
    client,
    deliver,
    publish,
    serve,
    session,
    train,
    whole,
)

UP = Scheduled.of(Uniform(), Schedule("bits", 2, 8, "adaptive", every=1))
DOWN = Scheduled.of(Uniform(), Schedule("bits", 8, 2, "adaptive", every=2))


def answers(of: Session, server: ServerLink, store: StateStore, number: int) -> int:
    """Let a client answer, check what arrives, and return how often the value has changed."""
    link = client(of, store)
    deliver(server, link, number)
    assert equal(link.received, server.public)
    blob, seen = train(link, number)
    received = accept(server, link, blob, number)
    sent = seen["w"] - server.public["w"]
    assert whole(received)["w"] == pytest.approx(server.exact["w"] + sent, abs=1e-5)
    return read_chain(blob)[0].payload[0]


def test_both_directions_follow_the_loss() -> None:
    of = session(up=UP, down=DOWN, manifest=BIG)
    server, store = serve(of), MemoryStateStore()
    changes = []
    for number, loss in enumerate((3.0, 3.0, 2.0, 2.0, 2.0, 2.0), start=1):
        up = answers(of, server, store, number)
        server.observe(loss)
        publish(server, big(number), number, "0")
        down = server.broadcast.history.packets[-1].payload[0]
        changes.append((up, down))
    assert changes == [(0, 0), (0, 0), (1, 0), (1, 0), (2, 1), (2, 1)]


def test_a_restarted_server_goes_on_where_it_was() -> None:
    of = session(up=UP, down=DOWN, manifest=BIG)
    server = serve(of)
    for loss in (1.0, 2.0, 2.0):
        server.observe(loss)
    arrays, values = server.save()
    again = ServerLink(of, big(0), 1)
    again.load(arrays, values)
    for one in (server, again):
        one.observe(2.0)
        assert one.downlink("0")[1].plateaus == 3
    assert again.save()[1]["plateaus"] == server.save()[1]["plateaus"] == [[3, 0, 1.0], [1, 1, 1.0]]


def test_earlier_symbols_are_read_as_they_were_made() -> None:
    """The number of values of randk follows from its density, and so from the round."""

    class Remembering(RandK):
        @property
        def uses_previous(self) -> bool:
            return True

    up = Scheduled.of(Remembering(), Schedule("density", 0.5, 0.1, "linear", rounds=3))
    of = session(up=up, manifest=BIG)
    server, store = serve(of), MemoryStateStore()
    sizes = []
    for number in (1, 2, 3):
        link = client(of, store)
        deliver(server, link, number)
        if link._previous is not None:
            sizes.append(link._previous["w"].levels.size)
        blob, _ = train(link, number)
        accept(server, link, blob, number)
        publish(server, server.exact, number, "0")
    assert sizes == [600, 360]


def test_temporal_contexts_survive_a_schedule() -> None:
    plain = Nnc(qp=None, step=0.02, temporal=True)
    up = Scheduled.of(plain, Schedule("step", 0.02, 0.08, "adaptive", every=1))
    of = session(up=up, manifest=BIG)
    server, store = serve(of), MemoryStateStore()
    for number in (1, 2, 3, 4):
        link = client(of, store)
        deliver(server, link, number)
        assert (link._previous is not None) == (number > 1)
        blob, seen = train(link, number)
        assert equal(whole(accept(server, link, blob, number)), seen)
        server.observe(1.0)
        publish(server, server.exact, number, "0")


@pytest.mark.parametrize("other", [PowerSgd(rank=1), Nnc(qp=None, step=0.02, temporal=True)])
def test_codecs_beside_one_on_an_adaptive_schedule_find_their_symbols(other: Codec) -> None:
    adaptive = Scheduled.of(PowerSgd(), Schedule("rank", 1, 4, "adaptive", every=1))
    up = Mixed("delta", (Part("^v", adaptive),), other)
    manifest = Manifest((*BIG.specs, replace(BIG.specs[0], name="v")))
    of = session(up=up, manifest=manifest)
    start = {"w": big(0)["w"], "v": big(1)["w"]}
    server, store = ServerLink(of, start, 1), MemoryStateStore()
    server.begin()
    for number in (1, 2, 3):
        link = ClientLink(of, "0", store, lambda: start)
        deliver(server, link, number)
        assert (link._previous is not None) == (number > 1)
        trained = {name: value * np.float32(1.01) for name, value in link.received.items()}
        blob = answer(link, trained)
        received = whole(accept(server, link, blob, number))
        assert all(np.linalg.norm(received[n] - trained[n]) < 0.6 for n in start)
        server.observe(1.0)
        publish(server, server.exact, number, "0")


def test_no_plateau_is_counted_for_codecs_that_do_not_ask() -> None:
    server = serve(session(manifest=BIG))
    server.observe(1.0)
    server.observe(1.0)
    assert server.downlink("0")[1].plateaus == 0
    assert server.save()[1]["plateaus"] == [[], []]
    assert Plateau.of(Uniform()) is None


def test_a_run_counts_the_plateaus_of_its_training_loss(tmp_path: Path) -> None:
    schedule = ["key=bits", "shape=adaptive", "start=16", "end=2", "every=1"]
    words = [f"uplink.schedule.{word}" for word in schedule]
    run = ["codec@uplink=uniform", "train.lr=1e-4", "link.verify=true", "rounds=4"]
    folder = run_inline(tmp_path, *run, *words)
    rows = read_csv(folder / "rounds.csv")[1:]
    density = [float(row["uplink_bits_per_weight"]) for row in rows]
    losses = [float(row["train_loss"]) for row in rows]
    expected = np.minimum.accumulate(losses)
    changes = sum(loss >= least for loss, least in zip(losses[1:-1], expected, strict=False))
    assert changes > 0
    assert density[-1] < density[0] / 1.5


def test_a_recipe_without_a_loss_has_no_plateau(monkeypatch: pytest.MonkeyPatch) -> None:
    from clients.local import LocalTraining

    monkeypatch.setattr(LocalTraining, "reports", ())
    words = ["method=fedavg", "codec@uplink=uniform", "uplink.schedule.key=bits"]
    more = ["shape=adaptive", "start=8", "end=2", "every=3"]
    with pytest.raises(ConfigError, match=r"schedule.shape=adaptive: .* no train_loss"):
        compose_config([*words, *(f"uplink.schedule.{word}" for word in more)])
