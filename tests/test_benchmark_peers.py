"""Benchmark `peers`: equal distortion, and what its rows say of both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.codecs.nnc import Nnc
from fedcomp.coding import quantise
from fedcomp.models.base import manifest_of
from fedcomp.models.mlp import MLP
from scripts.benchmarks.distortion import squared_error, step_for
from scripts.benchmarks.nncodec import NO_PIPELINE
from scripts.benchmarks.peers import Stream, WithCodec, beside_peer, smallest
from scripts.benchmarks.updates import ModelUpdate


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 2**32), st.floats(0.01, 0.5))
def test_step_of_a_squared_error(seed: int, wanted_step: float) -> None:
    values = np.random.default_rng(seed).normal(size=2000).astype(np.float32)

    def error_of(step: float) -> float:
        seen = quantise.dequantise(quantise.uniform(values, step), step)
        return squared_error({"w": values}, {"w": seen})

    wanted = error_of(wanted_step)
    found = error_of(step_for(error_of, wanted, 0.001, 4.0))
    assert 0.99 * wanted <= found <= wanted


def test_no_step_has_the_squared_error() -> None:
    with pytest.raises(RuntimeError, match="no step from 1 to 2 has squared error 100"):
        step_for(lambda step: step, 100.0, 1.0, 2.0)


@pytest.fixture
def update() -> ModelUpdate:
    """Return what training might change of a small net."""
    manifest = manifest_of(MLP(hidden=(30,)).seeded((1, 8, 8), 10, seed=1))
    rng = np.random.default_rng(3)
    change = {s.name: rng.laplace(0, 1e-3, s.shape).astype(np.float32) for s in manifest.specs}
    return ModelUpdate("mlp", manifest, change, qp=-38)


def test_smallest_loses_no_more_than_the_dependent_quantiser(update: ModelUpdate) -> None:
    error = Stream(update, dependent=True).error()
    own = smallest(update, error)
    assert 0.99 * error <= own.error() <= error

    def uniform(step: float) -> WithCodec:
        return WithCodec(update, Nnc(qp=None, step=step, quantiser="uniform"))

    nearest = uniform(step_for(lambda step: uniform(step).error(), error, 1e-4, 1e-1))
    assert len(own.encoded()) < len(nearest.encoded())


def test_rows_without_the_peer(update: ModelUpdate) -> None:
    rows = list(beside_peer(Stream(update, dependent=True), "stream", None))
    assert [found.name.split(": ")[1] for found in rows] == ["size", "encode", "decode"]
    assert all(found.ratio is None and found.remark == NO_PIPELINE for found in rows)
    assert rows[0].ours == [len(Stream(update, dependent=True).encoded())]
    assert all(found.lacks_peer for found in rows)


class Same:
    """A peer that loses what our stream loses."""

    def __init__(self, own: Stream) -> None:
        self.encode, self.decode = own.encode, own.decode
        self.results = lambda: (own.encoded(), own.decoded())

    def load(self, *arguments: Any, **words: Any) -> None:
        pass


def test_rows_say_where_the_work_differs(update: ModelUpdate) -> None:
    stream = Stream(update, dependent=True)
    chosen = smallest(update, stream.error())
    peer: Any = Same(stream)
    size, encode, decode = beside_peer(stream, "stream", peer)
    assert size.remark.endswith("; the same bytes")
    assert encode.remark == "the peer's with a file that it writes each time"
    assert decode.remark == ""
    size, encode, _ = beside_peer(chosen, "chosen", peer)
    assert size.remark.endswith(
        "; ours without names, shapes and steps, which its receiver has to know"
    )
    assert encode.remark.endswith("; ours without the search for λ and Δ")


def test_a_payload_of_nnc_has_no_names_shapes_and_steps(update: ModelUpdate) -> None:
    own = WithCodec(update, Nnc(qp=update.qp, quantiser="dependent"))
    names = [name.encode() for name in update.change]
    assert not any(name in own.encoded() for name in names)
    assert all(name in Stream(update, dependent=True).encoded() for name in names)
