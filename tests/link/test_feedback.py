from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file

from fedcomp.codecs.base import Codec, Mode
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.uniform import Uniform
from fedcomp.link import feedback
from fedcomp.link.client import ClientLink
from fedcomp.link.file_store import FileStateStore
from fedcomp.link.server import ServerLink
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import MemoryStateStore, StateStore
from fedcomp.link.update import Update
from fedcomp.tensors import Tensors, subtract
from tests.common import equal
from tests.link.common import (
    MANIFEST,
    accept,
    answer,
    client,
    deliver,
    model,
    serve,
    session,
)

PARAMETERS = {"w", "b"}


def test_tensors_that_are_not_sent_stay_as_they_are_and_are_fed_back() -> None:
    agreed = session(up=Uniform(bits=8))
    server, link = serve(agreed), client(agreed, MemoryStateStore())
    deliver(server, link, 1)
    trained = model(5)
    symbols, _ = link.quantise({"w": trained["w"]})
    blob = link.reply(Update(symbols, {"w": trained["w"], "b": trained["b"]}))
    received = accept(server, link, blob, 1)
    assert received.tensor("b") == server.exact["b"]
    server.publish(server.exact, 1, ["0"])
    server.begin()
    deliver(server, link, 2)
    assert link.residual["b"] == trained["b"] - model(0)["b"]


def norm(tensors: Tensors) -> float:
    return float(np.sqrt(sum(np.square(v, dtype=np.float64).sum() for v in tensors.values())))


def residuals() -> st.SearchStrategy[Tensors]:
    values = st.floats(-1e6, 1e6, width=32)
    one: Any = arrays.arrays(np.float32, st.integers(0, 4), elements=values)
    return st.dictionaries(st.sampled_from("abc"), one)


@given(residuals(), st.none() | st.floats(1e-3, 1e7))
def test_the_largest_norm_scales_down_and_never_up(residual: Tensors, most: float | None) -> None:
    kept = feedback.stored(residual, LinkSettings(feedback_max_norm=most))
    before = norm(residual)
    wanted = 1.0 if most is None or before <= most else most / before
    assert kept.keys() == residual.keys()
    for name, value in kept.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, residual[name] * wanted, rtol=1e-6, atol=1e-30)


@given(residuals(), st.none() | st.floats(1e-3, 1e7))
def test_half_floats_are_clipped_and_read_as_singles(residual: Tensors, most: float | None) -> None:
    wide = feedback.stored(residual, LinkSettings(feedback_max_norm=most))
    limits = LinkSettings(feedback_dtype="float16", feedback_max_norm=most)
    kept = feedback.stored(residual, limits)
    read = feedback.loaded(kept)
    for name in residual:
        assert (kept[name].dtype, read[name].dtype) == (np.float16, np.float32)
        wanted = np.clip(wide[name], -65504, 65504).astype(np.float16)
        np.testing.assert_array_equal(read[name], wanted)
    assert all(np.isfinite(value).all() for value in read.values())


def test_doubles_are_read_as_they_were_kept() -> None:
    for dtype in (np.float32, np.float64):
        value = np.array([1.5], dtype)
        assert feedback.loaded({"w": value})["w"] is value


def opened(server: ServerLink, store: StateStore, number: int, *used: str) -> ClientLink:
    """Open the next exchange without a change of the model."""
    server.publish(server.exact, number, used)
    server.begin()
    link = client(server.session, store)
    deliver(server, link, number + 1)
    return link


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("arrives", [False, True])
def test_decay_is_the_share_of_what_is_kept_that_is_sent_again(
    store: StateStore, decay: float, arrives: bool
) -> None:
    agreed = session(up=Uniform(bits=16), link=LinkSettings(feedback_decay=decay))
    server, link = serve(agreed), client(agreed, store)
    deliver(server, link, 1)
    trained, start = model(5), link.received
    symbols, _ = link.quantise({"w": trained["w"]})  # all of b, or all of both, is left
    blob = link.reply(Update(symbols, {n: trained[n] for n in PARAMETERS}))
    if arrives:
        accept(server, link, blob, 1)
    link = opened(server, store, 1, *(["0"] if arrives else []))
    left = {"b"} if arrives else PARAMETERS
    missed = subtract(trained, start)
    for name in left:
        np.testing.assert_allclose(link.residual[name], missed[name], atol=1e-3)
    _, seen = link.quantise({n: link.received[n] for n in PARAMETERS})
    for name in PARAMETERS:
        wanted = decay * missed[name] if name in left else 0 * missed[name]
        np.testing.assert_allclose(seen[name] - link.received[name], wanted, atol=1e-3)


@given(residuals(), st.floats(0, 1), st.data())
def test_what_is_left_is_the_target_without_what_was_decoded(
    residual: Tensors, decay: float, data: st.DataObject
) -> None:
    change = {name: np.ones_like(value) for name, value in residual.items()}
    target = feedback.added({**change, "z": np.ones(2, np.float32)}, residual, decay)
    sent = {n: target[n] / 2 for n in data.draw(st.sets(st.sampled_from(sorted(target))))}
    left = feedback.left_over(target, sent)
    for name, value in target.items():
        base = decay * residual[name].astype(np.float64) if name in residual else 0
        np.testing.assert_allclose(value, 1 + base, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(left[name], value / 2 if name in sent else value)
    again = feedback.total(left, sent)
    for name, value in target.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-6)


def test_buffers_and_counters_have_no_feedback(store: StateStore) -> None:
    agreed = session(up=Uniform(bits=2))
    server, link = serve(agreed), client(agreed, store)
    deliver(server, link, 1)
    answer(link, model(5))
    kept = store.load("0")
    assert kept is not None
    assert kept.pending is not None
    assert kept.residual.tensors.keys() == kept.pending.decoded.tensors.keys() == PARAMETERS
    assert opened(server, store, 1).residual.keys() == PARAMETERS
    assert feedback.parameters(model(0), MANIFEST).keys() == PARAMETERS


MODES: list[tuple[Codec, bool]] = [
    (Cast(), True),
    (Cast(mode="absolute"), False),
    (NoCompression(), False),
    (Uniform(), True),
]


@pytest.mark.parametrize("asked", ["auto", True, False])
@pytest.mark.parametrize(("up", "delta"), MODES, ids=str)
def test_auto_is_feedback_where_differences_are_sent(
    up: Codec, delta: bool, asked: Literal["auto"] | bool
) -> None:
    agreed, store = session(up=up, link=LinkSettings(feedback=asked)), MemoryStateStore()
    wanted = delta if asked == "auto" else asked
    assert agreed.feedback == wanted
    server, link = serve(agreed), client(agreed, store)
    deliver(server, link, 1)
    if wanted and not delta:
        return  # a configuration that is refused before a run
    answer(link, model(5))
    assert bool(opened(server, store, 1).residual) == wanted
    kept = store.load("0")
    assert kept is not None
    assert bool(kept.residual.tensors) == wanted


@pytest.mark.parametrize("mode", ["absolute", "delta"])
@pytest.mark.parametrize("asked", ["auto", True, False])
def test_a_background_goes_on_where_it_ended(
    store: StateStore, mode: Mode, asked: Literal["auto"] | bool
) -> None:
    limits = LinkSettings(feedback=asked, feedback_decay=0.5)
    up = Uniform(mode=mode, bits=2, fine_step=1.0)
    agreed = replace(session(up=up, link=limits), background=True)
    assert agreed.feedback == (asked is not False)
    server, link = serve(agreed), client(agreed, store)
    deliver(server, link, 1)
    assert equal(link.background(), link.received)
    trained = model(5)
    symbols, seen = link.quantise(trained)
    accept(server, link, link.reply(Update(symbols, trained)), 1)
    link = opened(server, store, 1, "0")
    left = subtract(trained, seen)
    for name, value in link.background().items():
        kept = 0.5 * left[name] if name in PARAMETERS and agreed.feedback else 0
        np.testing.assert_allclose(value, link.received[name] + kept, atol=1e-6)
    assert any(left[name].any() for name in PARAMETERS)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("most", [None, 0.02])
@pytest.mark.parametrize("lost", [False, True])
def test_what_is_kept_is_within_bounds_after_an_answer_and_after_its_loss(
    tmp_path: Path, dtype: Literal["float16", "float32"], most: float | None, lost: bool
) -> None:
    limits = LinkSettings(feedback_dtype=dtype, feedback_max_norm=most)
    agreed, store = session(up=Uniform(bits=3), link=limits), FileStateStore(tmp_path)
    server, link = serve(agreed), client(agreed, store)
    deliver(server, link, 1)
    symbols, seen = link.quantise(model(5))
    accept(server, link, link.reply(Update(symbols, model(5))), 1)
    left = subtract(model(5), model(0) if lost else seen)
    wanted = norm({name: left[name] for name in PARAMETERS})
    link = opened(server, store, 1, *([] if lost else ["0"]))
    (path,) = (tmp_path / "sites" / "0").glob("residual-*")
    assert {str(value.dtype) for value in load_file(path).values()} == {dtype}
    assert {str(value.dtype) for value in link.residual.values()} == {"float32"}
    assert wanted > 0.02
    np.testing.assert_allclose(norm(link.residual), most or wanted, rtol=1e-2)


def test_what_an_update_does_not_touch_is_still_left_over(store: StateStore) -> None:
    server = serve(session(up=Uniform(bits=8)))
    link, trained = client(server.session, store), model(5)
    deliver(server, link, 1)
    for number in (1, 2):  # b is trained once and never sent
        symbols, _ = link.quantise({"w": trained["w"]})
        wanted = {"w": trained["w"], **({"b": trained["b"]} if number == 1 else {})}
        accept(server, link, link.reply(Update(symbols, wanted)), number)
        link = opened(server, store, number, "0")
        assert link.residual["b"] == trained["b"] - model(0)["b"]


def test_feedback_that_is_switched_off_adds_nothing(store: StateStore) -> None:
    server = serve(session(up=Uniform(bits=3)))
    link = client(server.session, store)
    deliver(server, link, 1)
    accept(server, link, answer(link, model(5)), 1)
    assert opened(server, store, 1, "0").residual
    server.session = session(up=Uniform(bits=3), link=LinkSettings(feedback=False))
    link = opened(server, store, 2)
    assert link.residual == {}
    _, seen = link.quantise(link.received)
    np.testing.assert_array_equal(seen["w"], link.received["w"])


def test_after_folding_a_lost_update_nothing_of_it_is_pending(store: StateStore) -> None:
    agreed = session(up=Uniform(bits=3))
    server, link = serve(agreed), client(agreed, store)
    deliver(server, link, 1)
    answer(link, model(5))
    first = opened(server, store, 1).residual
    kept = store.load("0")
    assert kept is not None
    assert kept.pending is None
    second = opened(server, store, 2).residual  # an evaluation: nothing is added twice
    for name in PARAMETERS:
        np.testing.assert_array_equal(second[name], first[name])
