"""Every strategy reaches a known optimum through a sparse uplink and a 4-bit downlink.

Each client pulls all parameters towards its own optimum c + e_i with Σ e_i = 0, so that the
federation's is c.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

import fedcomp.engines.inline as inline
from clients.app import introduce, site_of
from clients.mod import CompressionMod
from fedcomp.config import compose_config, group_choices
from fedcomp.link.client import ClientLink
from fedcomp.link.stores import MemoryStateStore
from fedcomp.report.observer import Observer
from fedcomp.runtime import Hooks
from fedcomp.settings import Job
from fedcomp.setup import Setup
from fedcomp.tensors import Tensors
from fedcomp.wire.private import assume_identity
from strategies.app import serve
from tests.common import QUICK

CLIENTS = 7
OPTIONS = {
    "fedadam": ["strategy.eta=0.03"],
    "fedyogi": ["strategy.eta=0.03"],
    "fedadagrad": ["strategy.eta=1.0"],
    "fedavgm": ["strategy.server_momentum=0.5"],
    "dp_server": ["strategy.noise_multiplier=0", "strategy.clipping_norm=1000.0"],
    # The median of sparse updates is 0 where most clients leave a weight out.
    "fedmedian": ["uplink.density=0.3"],
    "bulyan": ["uplink.density=0.5"],
}
ROUNDS = {"fedadam": 250, "fedyogi": 160, "bulyan": 12}
CODECS = [
    "codec@uplink=topk",
    "uplink.density=0.1",
    "codec@downlink=uniform",
    "downlink.bits=4",
    "link.verify=true",
]


class Last(Observer):
    """Keeps the final model."""

    model: Tensors

    def on_end(self, model: Tensors) -> None:
        self.model = model


def distances(folder: Path, *words: str, rounds: int = 80) -> tuple[float, float]:
    """Run a federation on the quadratic; return its distance from c at the start and the end."""
    shape = ["model.hidden=[4]", f"clients={CLIENTS}", f"rounds={rounds}"]
    job = Job(compose_config([*QUICK, *shape, *CODECS, *words]), "x", str(folder))
    setup, store = Setup(job.settings), MemoryStateStore()
    rng = np.random.default_rng(4)
    best = {n: v + rng.normal(size=v.shape).astype(v.dtype) for n, v in setup.initial.items()}
    noise = rng.normal(scale=0.02, size=CLIENTS).astype(np.float32)
    noise -= noise.mean()
    session = setup.session("x")
    link = lambda c: ClientLink(session, site_of(c), store, lambda: setup.initial)  # noqa: E731
    app = ClientApp(mods=[CompressionMod(link)])
    app.query()(introduce)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        own = noise[int(site_of(context))]
        arrays = {n: a.numpy() for n, a in message.content["arrays"].items()}  # type: ignore[union-attr]
        moved = {n: Array(v + 0.3 * (best[n] + own - v)) for n, v in arrays.items()}
        content = {"arrays": ArrayRecord(moved), "metrics": MetricRecord({"num-examples": 1})}
        return Message(RecordDict(content), reply_to=message)

    run_id = assume_identity()
    contexts = {
        i + 1: Context(run_id, i + 1, {"partition-id": i}, RecordDict(), {}) for i in range(CLIENTS)
    }
    last = Last()
    serve(inline._grid(app, contexts), job, setup, Hooks([last]))
    return distance(setup.initial, best), distance(last.model, best)


def distance(left: Tensors, right: Tensors) -> float:
    return float(np.sqrt(sum(np.square(left[n] - right[n]).sum() for n in left)))


@pytest.mark.parametrize("strategy", group_choices()["strategy"])
def test_every_strategy_reaches_the_optimum(strategy: str, tmp_path: Path) -> None:
    words = [f"strategy={strategy}", *OPTIONS.get(strategy, [])]
    start, end = distances(tmp_path, *words, rounds=ROUNDS.get(strategy, 80))
    assert end < 0.05 * start


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam", "server_sgd"])
def test_partial_participation_reaches_it_too(strategy: str, tmp_path: Path) -> None:
    words = [f"strategy={strategy}", "fraction=0.4", *OPTIONS.get(strategy, [])]
    start, end = distances(tmp_path, *words, rounds=250)
    assert end < 0.08 * start
