"""Buckets and the codec on them beside a dense matrix A with orthonormal columns."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedcomp.codecs import buckets
from fedcomp.codecs.levels import Levels
from fedcomp.codecs.subspace import LOWEST, Subspace
from fedcomp.errors import BitstreamError
from fedcomp.tensors import Tensors
from tests.common import context_for

TENSORS: Tensors = {
    "weight": np.random.default_rng(1).normal(0, 0.1, (20, 15)).astype(np.float32),
    "other": np.random.default_rng(2).normal(0, 3, (7, 13)).astype(np.float32),
    "bias": np.random.default_rng(3).normal(0, 1, 20).astype(np.float32),
}
SMALL = Subspace(dimensions=50, whole=20)
KNOWN = [0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1]


def matrix(drawn: buckets.Buckets) -> np.ndarray:
    """Return A."""
    at = np.arange(len(drawn.signs))
    dense = np.zeros((len(at), drawn.count))
    dense[at, at % drawn.count] = drawn.signs
    return dense / np.sqrt((dense != 0).sum(0))


PACES = st.floats(0.001, 1.2)


@given(size=st.integers(1, 400), pace=PACES, seed=st.integers(0, 2**32))
def test_columns_are_orthonormal_and_of_equal_size(size: int, pace: float, seed: int) -> None:
    drawn = buckets.draw(size, pace, seed, "w")
    assert drawn.count == buckets.count(size, pace) <= min(size, size * pace + 1)
    assert drawn.count >= min(size, size * pace) * 0.8 or size * pace < 8
    assert (drawn.sizes == (matrix(drawn) != 0).sum(0)).all()
    assert drawn.is_whole or pace < 1
    dense = matrix(drawn)
    np.testing.assert_allclose(dense.T @ dense, np.eye(drawn.count), atol=1e-6)
    values = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    z = drawn.project(values)
    np.testing.assert_allclose(z, dense.T @ values, atol=1e-4)
    np.testing.assert_allclose(drawn.spread(z), dense @ z, atol=1e-4)


@given(
    size=st.integers(30, 900),
    pace=st.floats(0.3, 1),
    seed=st.integers(0, 99),
    less=st.integers(1, 6),
)
def test_twice_as_many_columns_hold_the_fewer(size: int, pace: float, seed: int, less: int) -> None:
    assume(size * pace / 2**less >= 8)
    few, many = (buckets.draw(size, pace / scale, seed, "w") for scale in (2**less, 1))
    assert many.count == few.count * 2**less or many.is_whole
    z = np.random.default_rng(seed).normal(size=few.count)
    values = few.spread(z).astype(np.float32)
    np.testing.assert_allclose(many.spread(many.project(values)), values, atol=1e-6)


def test_seeds_and_names_draw_other_signs_and_processes_the_same() -> None:
    first = buckets.draw(1000, 0.05, 1, "w")
    for seed, name in ((2, "w"), (1, "v")):
        other = buckets.draw(1000, 0.05, seed, name)
        assert 0.4 < (first.signs != other.signs).mean() < 0.6
    assert abs(first.signs.astype(int).sum()) < 150
    # as drawn elsewhere: others would give other models to old packets
    assert (first.signs[:12] < 0).astype(int).tolist() == KNOWN


@given(
    sizes=st.dictionaries(st.text("abc", min_size=1), st.integers(1, 10**7), min_size=1),
    dimensions=st.integers(1, 10**5),
    whole=st.integers(0, 1000),
)
def test_dimensions_are_shared_by_roots_and_double_exactly(
    sizes: dict[str, int], dimensions: int, whole: int
) -> None:
    found = buckets.paces(sizes, dimensions, whole)
    twice = buckets.paces(sizes, 2 * dimensions, whole)
    shared = {name for name, size in sizes.items() if size > whole}
    assert all(found[name] == 1 for name in sizes.keys() - shared)
    assert sum(found[n] * sizes[n] for n in shared) <= dimensions * (1 + 1e-9)
    for name in shared:
        assert twice[name] == min(2 * found[name], 1)
        for other in shared:
            if max(found[name], found[other]) < 1:
                ratio = (found[name] * sizes[name]) / (found[other] * sizes[other])
                assert ratio == pytest.approx(isqrt(sizes[name]) / isqrt(sizes[other]))


@pytest.mark.parametrize("quantiser", ["sign", "uniform"])
def test_what_arrives_is_the_formula(quantiser: str) -> None:
    codec = replace(SMALL, quantiser=quantiser, width=0.7)
    context = context_for(TENSORS)
    got = codec.decode(codec.encode(TENSORS, context), context)
    for name, drawn in codec.columns(context.manifest, context.seed).items():
        dense = matrix(drawn)
        z = dense.T @ TENSORS[name].reshape(-1).astype(np.float64)
        if quantiser == "sign":
            levels, ideal = np.where(z < 0, -1, 1), np.abs(z).mean()
        else:
            ideal = 0.7 * np.sqrt(np.square(z).mean())
            step = 2.0 ** (np.floor(np.log2(ideal) * 8) / 8)
            levels = np.round(z / step)
        step = 2.0 ** (np.floor(np.log2(ideal) * 8) / 8)
        assert step <= ideal < step * 2 ** (1 / 8)
        np.testing.assert_allclose(
            got[name].reshape(-1), dense @ (levels * step), rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize("quantiser", ["sign", "uniform"])
@given(scale=st.integers(-40, 12), seed=st.integers(0, 100), width=st.floats(0.01, 2.0))
def test_no_packet_is_farther_from_what_it_says_than_nothing(
    quantiser: str, scale: int, seed: int, width: float
) -> None:
    """Feedback is stable only so: ‖w − ŵ‖ ≤ ‖w‖, also where no step is small enough."""
    codec = replace(SMALL, quantiser=quantiser, width=width)
    rng = np.random.default_rng(seed)
    tensors = {
        name: np.ldexp(rng.standard_t(2, value.shape), scale).astype(np.float32)
        for name, value in TENSORS.items()
    }
    context = context_for(tensors)
    got = codec.decode(codec.encode(tensors, context), context)
    for name, sent in tensors.items():
        lost = np.linalg.norm(sent.astype(np.float64) - got[name])
        assert lost <= np.linalg.norm(sent.astype(np.float64)) * (1 + 1e-6), name


def test_packets_have_a_bit_a_dimension_and_a_byte_a_tensor() -> None:
    context = context_for(TENSORS)
    symbols = SMALL.quantise(TENSORS, context)
    counts = SMALL.counts(context.manifest)
    assert sum(counts.values()) in range(67, 71)
    data = SMALL.pack(symbols, context)
    # which tensors are there, which are not all zero, how the signs are written, and how long
    assert len(data) == -(-sum(counts.values()) // 8) + len(TENSORS) + 4


@given(codes=st.binary(min_size=3, max_size=3))
def test_every_step_that_can_be_written_is_one_that_can_be_read(codes: bytes) -> None:
    context = context_for(TENSORS)
    symbols = SMALL.quantise(TENSORS, context)
    data = SMALL.pack(symbols, context)
    steps = SMALL.write_steps(
        list(context.manifest.specs),
        np.array([symbols[spec.name].step for spec in context.manifest.specs], np.float32),
        context,
    )
    at = data.index(steps)
    found = SMALL.unpack(data[:at] + codes + data[at + 3 :], context)
    exact = [2.0 ** (LOWEST + code / 8) for code in codes]
    read = [found[spec.name].step for spec in context.manifest.specs]
    np.testing.assert_allclose(read, exact, rtol=1e-6)
    assert all(isinstance(symbol, Levels) for symbol in found.values())


def test_a_cut_packet_is_refused() -> None:
    context = context_for(TENSORS)
    data = SMALL.encode(TENSORS, context)
    for end in range(len(data)):
        with pytest.raises(BitstreamError):
            SMALL.decode(data[:end], context)
