from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from fedcomp.building import build
from fedcomp.codecs import randk
from fedcomp.codecs.coders import Coding
from fedcomp.codecs.draws import positions
from fedcomp.codecs.randk import RandK
from fedcomp.codecs.topk import kept_count
from fedcomp.errors import BitstreamError, CodecError, ConfigError
from fedcomp.tensors import Array
from tests.common import context_for, equal

RNG = np.random.default_rng(8)
WEIGHTS = RNG.normal(size=(20, 30)).astype(np.float32)
ROUNDS = 500


MODEL = {
    "wide": RNG.normal(size=(40, 50)).astype(np.float32),
    "tiny": np.ones((1, 2), np.float32),
    "bias": RNG.normal(size=9).astype(np.float32),
    "none": np.zeros((0, 4), np.float32),
    "zero": np.zeros((30, 10), np.float32),
    "deep": RNG.normal(scale=5, size=(3, 4, 5)),
}
WHOLE = 2000 + 2 + 300 + 60


def outputs(codec: RandK, values: Array = WEIGHTS) -> Array:
    drawn = []
    for number in range(ROUNDS):
        context = context_for({"w": values}, number)
        drawn.append(codec.decode(codec.encode({"w": values}, context), context)["w"])
    return np.stack(drawn).astype(np.float64)


@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_error_is_what_was_not_drawn(density: float) -> None:
    found = outputs(RandK(density=density, bits=24))
    wide, n = WEIGHTS.astype(np.float64), WEIGHTS.size
    k = kept_count(density, n)
    assert (np.count_nonzero(found, axis=(1, 2)) == k).all()
    kept = found != 0
    assert np.abs((found - wide)[kept]).max() < 1e-6
    whole = np.square(wide).sum()
    errors = np.square(found - wide).sum(axis=(1, 2))
    spread = np.square(wide).std() * np.sqrt(k * (n - k) / (n - 1) / ROUNDS)
    assert abs(errors.mean() - (1 - k / n) * whole) <= 4 * spread + 1e-6 * whole


def test_error_is_exact_where_all_weights_are_of_one_size() -> None:
    values = np.where(WEIGHTS < 0, np.float32(-0.5), np.float32(0.5))
    errors = np.square(outputs(RandK(density=0.25), values) - values).sum(axis=(1, 2))
    assert errors == pytest.approx(np.full(ROUNDS, 0.75 * 600 * 0.25), rel=1e-6)


@pytest.mark.parametrize("bits", [2, 24])
def test_unbiased_where_asked_for(bits: int) -> None:
    found = outputs(RandK(density=0.2, unbiased=True, bits=bits))
    wide = WEIGHTS.astype(np.float64)
    deviations = np.abs(found.mean(axis=0) - wide)
    spread = found.std(axis=0) / np.sqrt(ROUNDS)
    assert (deviations <= 5 * spread + 0.05 * np.abs(wide).max()).all()
    assert np.square(deviations).sum() == pytest.approx(np.square(spread).sum(), rel=0.2)
    if bits == 24:
        kept = found != 0
        ratio = found[kept] / np.broadcast_to(wide, found.shape)[kept]
        assert np.abs(ratio - 5).max() < 0.01
        variances = (1 / 0.2 - 1) * np.square(wide).sum()
        errors = np.square(found - wide).sum(axis=(1, 2))
        assert errors.mean() == pytest.approx(variances, rel=0.03)


def test_positions_cost_no_byte() -> None:
    values = RNG.uniform(-1, 1, size=(200, 400)).astype(np.float32)
    for density in (0.01, 0.2):
        codec = RandK(density=density, bits=8, coder="fixed")
        size = len(codec.encode({"w": values}, context_for({"w": values})))
        assert 0 <= size - density * 80_000 <= 20


def test_positions_follow_round_client_tensor_and_seed() -> None:
    context = context_for({"w": WEIGHTS, "v": WEIGHTS})
    codec = RandK(density=0.1)

    def drawn(tensor: str = "w", **changes: object) -> frozenset[int]:
        changed = replace(context, **changes)  # type: ignore[arg-type]
        out = codec.decode(codec.encode({tensor: WEIGHTS}, changed), changed)[tensor]
        return frozenset(np.flatnonzero(out).tolist())

    sets = {
        drawn(),
        drawn("v"),
        drawn(round=4),
        drawn(client="1"),
        drawn(seed=2),
        drawn(direction="downlink"),
    }
    assert len(sets) == 6
    assert drawn() == drawn()


def test_a_draw_of_zeros_is_a_tensor_of_zeros() -> None:
    values = np.zeros((50, 50), np.float32)
    values[0, 0] = 1
    found = outputs(RandK(density=0.01), values)
    assert 0 < np.count_nonzero(found) < ROUNDS / 10
    assert found.shape[1:] == values.shape


def test_an_unlucky_draw_is_a_tensor_of_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randk, "rounded", lambda q, _: np.trunc(q).astype(np.int32))
    values = np.full((2, 2), 2.0**-26 - 1)  # -1 in float32, and so the step
    codec, context = RandK(density=0.25, unbiased=True, bits=2), context_for({"w": values})
    seen = codec.reconstruct(codec.quantise({"w": values}, context), context)["w"]
    assert seen.tolist() == [[0, 0], [0, 0]]


def test_an_empty_tensor_has_nothing_to_draw() -> None:
    context = context_for({"w": np.zeros((0, 3), np.float32)})
    step = b"\1" + np.float32(1).tobytes()
    section = Coding("fixed").write({"w": np.ones(1, np.int32)})
    with pytest.raises(BitstreamError):
        RandK(coder="fixed").decode(b"\0\x80" + step + section, context)


def test_the_draw_and_the_rounding_are_independent() -> None:
    """Word for word the same random numbers would always round the weight at 2 down."""
    values = np.array([[0.5, 0.5], [0.5, 1.0]], np.float32)  # half of a step of 1/3 to round
    codec, seen = RandK(density=0.5, unbiased=True, bits=2), set()
    for number in range(200):
        context = context_for({"w": values}, number)
        if positions(4, 2, context.generator("w")).tolist() == [2, 3]:
            seen.add(tuple(codec.quantise({"w": values}, context)["w"].levels.tolist()))
    assert seen == {(1, 3), (2, 3)}


@pytest.mark.parametrize("density", [0.001, 0.05, 0.7, 1.0])
def test_the_counts_of_a_model_add_up(density: float) -> None:
    codec = RandK(density=density, scope="model", bits=24)
    counts = []
    for number in range(50):
        context = context_for(MODEL, number)
        found = codec.counts(context)
        assert list(found) == ["wide", "tiny", "none", "zero", "deep"]
        assert sum(found.values()) == kept_count(density, WHOLE)
        out = codec.decode(codec.encode(MODEL, context), context)
        kept = {name: np.count_nonzero(value) for name, value in out.items()}
        assert [kept[n] for n in ("wide", "tiny", "deep")] == [
            found[n] for n in ("wide", "tiny", "deep")
        ]
        assert kept["bias"] == 9
        counts.append(list(found.values()))
    sizes = np.array([2000, 2, 0, 300, 60])
    k = kept_count(density, WHOLE)
    shares = sizes / WHOLE  # multivariate hypergeometric
    spread = np.sqrt(k * shares * (1 - shares) * (WHOLE - k) / (WHOLE - 1) / 50)
    assert (np.abs(np.mean(counts, axis=0) - k * shares) <= 4 * spread).all()


def test_the_counts_of_tensors() -> None:
    counts = RandK(density=0.05).counts(context_for(MODEL))
    assert counts == {"wide": 100, "tiny": 1, "none": 0, "zero": 15, "deep": 3}


@pytest.mark.parametrize("scope", ["tensor", "model"])
def test_positions_do_not_depend_on_what_else_is_sent(scope: Literal["tensor", "model"]) -> None:
    codec, context = RandK(density=0.1, scope=scope), context_for(MODEL)
    whole = codec.decode(codec.encode(MODEL, context), context)
    parts = [["deep"], ["bias", "wide"], ["zero", "none", "tiny"]]
    pieces = [codec.quantise({n: MODEL[n] for n in part}, context) for part in parts]
    for symbols in (*pieces, pieces[0] | pieces[1]):
        found = codec.decode(codec.pack(symbols, context), context)
        assert equal(found, {name: whole[name] for name in found})
        assert set(found) == set(symbols)


def test_a_model_is_unbiased_where_asked_for() -> None:
    codec = RandK(density=0.02, scope="model", unbiased=True, bits=24)
    sums = np.zeros((3, 4, 5))
    for number in range(ROUNDS):
        context = context_for(MODEL, number)
        symbols = codec.quantise({"deep": MODEL["deep"]}, context)
        sums += codec.reconstruct(symbols, context)["deep"]
    k = kept_count(0.02, WHOLE)
    spread = np.abs(MODEL["deep"]) * np.sqrt((WHOLE / k - 1) / ROUNDS)
    assert (np.abs(sums / ROUNDS - MODEL["deep"]) <= 4.5 * spread).all()
    one = codec.reconstruct(codec.quantise(MODEL, context), context)["wide"]
    kept = one != 0
    assert one[kept] / MODEL["wide"][kept] == pytest.approx(WHOLE / k, rel=1e-2)


def test_a_tensor_of_which_nothing_is_drawn() -> None:
    tensors = {"big": WEIGHTS, "one": np.ones((1, 1), np.float32)}
    codec = RandK(density=0.01, scope="model", coder="fixed")
    context = context_for(tensors)
    assert codec.counts(context) == {"big": 7, "one": 0}
    out = codec.decode(codec.encode(tensors, context), context)
    assert (np.count_nonzero(out["big"]), out["one"].tolist()) == (7, [[0.0]])
    for section in (b"\0", b"\1\0"):
        lie = b"\1\x40" + b"\x80" + b"\1" + np.float32(1).tobytes() + section
        with pytest.raises(BitstreamError):
            codec.decode(lie, context)


def test_what_is_not_drawn_is_checked_too() -> None:
    values = WEIGHTS.copy()
    values[3, 4] = np.nan
    with pytest.raises(CodecError, match="'w' holds values that are not finite"):
        RandK(density=0.01).encode({"w": values}, context_for({"w": values}))
    huge = {"w": np.full((2, 2), 1e200)}
    with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
        RandK().encode(huge, context_for(huge))


def test_feedback_is_for_values_that_travel_as_they_are() -> None:
    assert RandK().contracts
    assert not RandK(unbiased=True).contracts


@pytest.mark.parametrize(
    "values", [{"density": 0}, {"density": 1.5}, {"bits": 1}, {"scope": "all"}]
)
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(RandK, values, "uplink")
