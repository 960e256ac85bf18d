from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedcomp.building import build
from fedcomp.codecs import randk
from fedcomp.codecs.coders import Coding
from fedcomp.codecs.randk import RandK, positions
from fedcomp.codecs.topk import kept_count
from fedcomp.errors import BitstreamError, ConfigError
from fedcomp.tensors import Array
from tests.common import context_for

RNG = np.random.default_rng(8)
WEIGHTS = RNG.normal(size=(20, 30)).astype(np.float32)
ROUNDS = 500


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


def test_every_pair_of_positions_is_as_likely() -> None:
    counts = np.zeros((6, 6))
    for seed in range(6000):
        drawn = positions(6, 2, np.random.default_rng(seed))
        counts[drawn[0], drawn[1]] += 1
    pairs = counts[np.triu_indices(6, 1)]
    assert pairs.sum() == 6000
    assert np.square(pairs - 400).sum() / 400 < 36  # chi-square of 14 degrees, p = 0.001


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


@pytest.mark.parametrize("values", [{"density": 0}, {"density": 1.5}, {"bits": 1}])
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(RandK, values, "uplink")
