"""One of four clients lies in every reply of a whole run; the others must not notice."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fedcomp.config import compose_config
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Tensors
from fedcomp.wire import keys
from fedcomp.wire.packet import HEADER_BYTES
from tests.common import read_csv, read_summary, run_inline
from tests.engines.hostile import BOUNDS, LIES, Reply, Villain

SITE = 3
TINY = (
    *("engine=inline", "clients=4", "model=mlp", "model.hidden=[8]"),
    *("train.steps=2", "train.lr=0.1", *BOUNDS),
)
RUNS = {
    "topk": (
        *("method=fedavg", "rounds=50", "codec@uplink=topk", "uplink.density=0.1"),
        "codec@downlink=nnc",
    ),
    "deepcabac": ("method=deepcabac", "rounds=50", "uplink.temporal=true"),
    "fsfl": (
        *("method=fedavg", "rounds=50", "codec@uplink=fsfl", "codec@downlink=topk"),
        "downlink.density=0.2",
    ),
    "half": ("method=half", "rounds=20", "strategy.fraction_evaluate=1.0"),
}
MODES = ("delta", "absolute")
"""So is booked what is refused at last, because its metrics have other names than most."""

NOT_COMPARED = ("seconds", "message_bytes")
WRITTEN = {
    *("failures", "uplink_bytes", "downlink_bytes", "evaluation_bytes", "keyframe_bytes"),
    *("uplink_header_bytes", "downlink_header_bytes", "uplink_side_bytes"),
    *("side_bytes", "training_keyframe_bytes"),
}
"""Columns that show what a refused client costs."""


def silence(patch: pytest.MonkeyPatch) -> None:
    """Let the client raise whatever it is asked, after it has said who it is."""
    import clients.app as app_module

    make = app_module.make_app

    def changed(*arguments: Any) -> Any:
        app = make(*arguments)

        def answer(message: Message, context: Any) -> Message:
            asked = message.metadata.message_type != "query"
            if asked and context.node_config["partition-id"] == SITE:
                raise RuntimeError("never answers")
            return app(message, context)

        return answer

    patch.setattr(app_module, "make_app", changed)


def run(folder: Path, change: Callable[[pytest.MonkeyPatch], None], *words: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        change(patch)
        return run_inline(folder, *words, quick=TINY)


def check_untouched(lied: Path, silent: Path) -> None:
    """Check that nothing but the liar's own bytes differs from a run in which it is silent."""
    model = "model.safetensors"
    assert (lied / model).read_bytes() == (silent / model).read_bytes()
    pairs = zip(read_csv(lied / "rounds.csv"), read_csv(silent / "rounds.csv"), strict=True)
    for left, right in pairs:
        names = [n for n in left if n not in WRITTEN and "seconds" not in n]
        assert [left[n] for n in names] == [right[n] for n in names]
        assert left["failures"] == right["failures"]
    assert others(lied) == others(silent)


def others(folder: Path) -> list[list[str]]:
    rows = [row for row in read_csv(folder / "packets.csv") if row["client"] != str(SITE)]
    return [[v for n, v in row.items() if n not in NOT_COMPARED] for row in rows]


def check_booked(folder: Path, villain: Villain) -> None:
    """Check that every byte of the liar is booked, and that it cost no more than keyframes do."""
    rows = [row for row in read_csv(folder / "packets.csv") if row["client"] == str(SITE)]
    asked = [row for row in rows if row["purpose"] != "handshake"]
    up = [row for row in asked if row["direction"] == "uplink"]
    assert sum(int(row["message_bytes"]) for row in up) == villain.sent_bytes()
    assert {row["kind"] for row in up} <= {"refused", "message", "error", "nack", *MODES}
    down = [row for row in asked if row["direction"] == "downlink"]
    exchanges = {(row["round"], row["purpose"]) for row in down}
    assert len(down) <= 2 * len(exchanges)
    keyframe = sum(p.stat().st_size for p in folder.glob("model.safetensors")) + HEADER_BYTES
    assert all(int(row["packet_bytes"]) <= keyframe for row in down)


@pytest.mark.filterwarnings("ignore:Key .* was overwritten")
@pytest.mark.parametrize("name", RUNS)
def test_a_client_that_lies_in_every_round_is_as_good_as_a_silent_one(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    villain = Villain(SITE, random.Random(name))
    silent = run(tmp_path / "silent", silence, *RUNS[name])
    lied = run(tmp_path / "lied", villain.install, *RUNS[name])
    check_untouched(lied, silent)
    check_booked(lied, villain)
    rounds = len(read_csv(lied / "rounds.csv")) - 1
    exchanges = rounds * (2 if "strategy.fraction_evaluate=1.0" in RUNS[name] else 1)
    assert read_summary(lied)["failures"] == exchanges
    assert villain.told.total() >= exchanges
    assert rounds < 50 or set(villain.told) >= set(LIES)
    assert "\x1b" not in caplog.text  # nor any other word to a terminal
    assert max(map(len, caplog.messages)) < 10_000


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a short run in which the client is silent."""
    return run(tmp_path_factory.mktemp("short") / "silent", silence, *SHORT)


SHORT = (*RUNS["topk"], "rounds=3")


@pytest.mark.filterwarnings("ignore:Key .* was overwritten")
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(sorted(LIES)), min_size=1, max_size=4), st.integers(0, 2**32))
def test_any_few_lies_change_nothing(
    short: Path, tmp_path: Path, names: list[str], seed: int
) -> None:
    told = {**{name: LIES[name] for name in names}, "flipped": LIES["flipped"]}
    villain = Villain(SITE, random.Random(seed), told)
    lied = run(tmp_path / f"{seed}-{'-'.join(names)}"[:200], villain.install, *SHORT)
    check_untouched(lied, short)
    check_booked(lied, villain)


ONE_ROUND = ("method=fedavg", "rounds=1")
MOST_NORM, MOST_EXAMPLES = 30.0, 1000


def moved(norm: float, examples: int | None) -> Villain:
    """Let the client send a change of that norm in one direction, and claim so many samples."""

    def change(_: random.Random, reply: Reply) -> RecordDict:
        received = reply.link.received
        count = sum(value.size for value in received.values())
        tensors = {n: v + np.float32(norm / count**0.5) for n, v in received.items()}
        codec = reply.link.session.uplink
        content = reply.payload(codec.encode(tensors, reply.link._context()))
        claimed = Reply(content, reply.link, reply.update, [], [], [])
        return claimed.metrics(**{keys.EXAMPLES: examples}) if examples else content

    return Villain(SITE, random.Random(0), {"change": change})


def model_of(folder: Path) -> Tensors:
    return dict(load_file(folder / "model.safetensors"))


def distance(left: Tensors, right: Tensors) -> float:
    squares = (np.square(left[n].astype(np.float64) - right[n]).sum() for n in left)
    return float(sum(squares)) ** 0.5


@pytest.mark.parametrize(
    ("norm", "examples", "reason"),
    [(1e6, None, "link.max_update_norm"), (0.0, 10**9, "link.max_examples")],
)
def test_a_well_formed_lie_beyond_the_bounds_is_refused(
    norm: float, examples: int | None, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = run(tmp_path / "silent", silence, *ONE_ROUND)
    lied = run(tmp_path / "lied", moved(norm, examples).install, *ONE_ROUND)
    check_untouched(lied, silent)
    assert reason in caplog.text


def test_a_lie_within_the_bounds_moves_the_aggregate_by_its_weight_times_the_norm(
    tmp_path: Path,
) -> None:
    """Σ w_i u_i with ‖u_i‖ ≤ max_update_norm, and w ≤ max_examples / Σ of what is claimed."""
    still = run(tmp_path / "still", moved(0.0, MOST_EXAMPLES).install, *ONE_ROUND)
    lied = run(tmp_path / "lied", moved(0.999 * MOST_NORM, MOST_EXAMPLES).install, *ONE_ROUND)
    silent = run(tmp_path / "silent", silence, *ONE_ROUND)
    assert read_summary(lied)["failures"] == read_summary(still)["failures"] == 0
    setup = Setup(parse(compose_config([*TINY, *ONE_ROUND])))
    honest = sum(len(setup.client_indices(site)[0]) for site in range(SITE))
    weight = MOST_EXAMPLES / (MOST_EXAMPLES + honest)
    found = distance(model_of(lied), model_of(still))
    assert found <= weight * MOST_NORM
    assert found == pytest.approx(weight * 0.999 * MOST_NORM, rel=0.01)
    assert distance(model_of(lied), model_of(silent)) <= 2 * weight * MOST_NORM


def test_without_bounds_one_client_takes_over(tmp_path: Path) -> None:
    """What the defaults allow, so that the text of the settings stays true."""
    free = ("link.max_update_norm=null", "link.max_examples=null", *ONE_ROUND)
    lied = run(tmp_path / "lied", moved(1e6, 2**31).install, *free)
    silent = run(tmp_path / "silent", silence, *free)
    assert distance(model_of(lied), model_of(silent)) > 0.99e6
