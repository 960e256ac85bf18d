"""What the framework itself costs: start of the command, rounds without and with Ray, memory."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING

from scripts.benchmarks.children import Outcome, run_module, wall_seconds
from scripts.benchmarks.inline_rounds import inline_rounds
from scripts.benchmarks.rows import Row, bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

_REPEATS = 3
_WARM_UP = 3
_ACTORS = 2
_GIB = 2.0**30
_TINY = (
    *("engine=flower", f"engine.max_parallel={_ACTORS}"),
    *("method=fedavg", "model=mlp", "model.hidden=[8]"),
)


def rows() -> Iterator[Row]:
    """Measure one row after the other."""
    yield command_start("--help")
    yield command_start("--cfg")
    yield inline_rounds()
    yield flower_rounds()
    yield from thousand_clients()


def command_start(flag: str) -> Row:
    """Wall time of a fresh process that prints the help, or composes the configuration."""
    command = [str(Path(sys.executable).with_name("fedcomp")), flag]
    return bounded(f"fedcomp {flag}", "s", wall_seconds(command, 5), 2.0)


def flower_rounds() -> Row:
    """Seconds a round of ten tiny clients on Ray, once all are there, beside plain Flower's.

    Flower hands out messages every 0.1 s, so that single rounds fall in steps of that; of each run
    the mean counts, which is what the user waits for.
    """
    rounds = 80
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(_REPEATS):
        own = run_module("ours", *_TINY, "clients=10", f"rounds={rounds}", "train.steps=1")
        ours.append(mean(own.written["rounds"][_WARM_UP:]))
        peer = _plain_flower(clients=10, rounds=rounds)
        theirs.append(mean(peer.written["rounds"][_WARM_UP:]))
    return Row("flower, 10 tiny clients: round", "s", ours, theirs, "peer", 1.2)


def thousand_clients() -> Iterator[Row]:
    """Memory and time of 1,000 virtual clients of which 100 train in each of five rounds.

    The memory that counts is the peak over the process and all of Ray's, less that of the same
    actors of plain Flower with nothing to do.  Each is run once: the times are without a target.
    """
    clients, rounds = 1000, 5
    overrides = (*_TINY, f"clients={clients}", f"rounds={rounds}", "fraction=0.1", "train.steps=1")
    own = run_module("ours", *overrides, watch_memory=True)
    peer = _plain_flower(clients=clients, rounds=rounds, fraction=0.1, watch_memory=True)
    idle = _plain_flower(clients=_ACTORS, rounds=0, watch_memory=True)
    name = f"flower, {clients} clients"
    ours, theirs, nothing = (o.peak_bytes / _GIB for o in (own, peer, idle))
    remark = f"{ours:.2f} GiB less {nothing:.2f} GiB of idle actors"
    yield bounded(f"{name}: memory", "GiB", [ours - nothing], 2e9 / _GIB, remark)
    yield Row(f"{name}: peak", "GiB", [ours], [theirs], "peer")
    yield Row(f"{name}: wall time", "s", [own.wall_seconds], [peer.wall_seconds], "peer")
    share = 100 * own.written["handshake_seconds"] / own.wall_seconds
    remark = f"{own.written['handshake_seconds']:.1f} s, from the first client's answer to the last"
    yield Row(f"{name}: handshake", "%", [share], remark=remark)
    ours_round, their_round = (median(o.written["rounds"][1:]) for o in (own, peer))
    yield Row(f"{name}: round of 100", "s", [ours_round], [their_round], "peer")


def _plain_flower(
    *, clients: int, rounds: int, fraction: float = 1.0, watch_memory: bool = False
) -> Outcome:
    arguments = {"clients": clients, "rounds": rounds, "fraction": fraction, "actors": _ACTORS}
    words = [f"--{key}={value}" for key, value in arguments.items()]
    return run_module("peer", *words, watch_memory=watch_memory)
