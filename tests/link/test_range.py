from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedcomp.codecs.base import Codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.uniform import Uniform
from fedcomp.link.client import ClientLink
from fedcomp.link.server import ServerLink
from fedcomp.link.stores import MemoryStateStore
from fedcomp.link.update import Update
from fedcomp.tensors import Kind, Manifest, TensorSpec, narrowed
from tests.common import equal
from tests.link.common import accept, deliver, model, publish, serve, session, whole

HALF = Manifest((TensorSpec("w", (2, 3), "float16", Kind.WEIGHT),))
LOSSY = [Uniform(bits=2), Uniform(bits=4), Cast(), Cast(dtype="bf16"), Cast(mode="absolute")]
EDGES = st.sampled_from([np.inf, -np.inf, np.nan, 65519.9, -65520.0, 3.5e38, -1e300, -0.0])
LARGE = st.sampled_from([65504.0, -65504.0, 60000.0, -60000.0, 65472.0, 0.0, 1.0, 6e-8])


def halves() -> st.SearchStrategy[Any]:
    values = LARGE | st.floats(-65504, 65504, width=16)
    return arrays.arrays(np.float16, (2, 3), elements=values)


def test_a_variance_does_not_become_negative_by_what_codecs_lose() -> None:
    server = serve(session(down=Cast()))
    publish(server, {**model(0), "running_var": np.array([3.0, 3.0], np.float32)}, 1)
    publish(server, {**model(0), "running_var": np.array([1e-4, 1.7e-5], np.float32)}, 2)
    assert (server.public["running_var"] >= 0).all()
    assert server.public["running_var"].min() == 0  # the half float of the difference is too far


@pytest.mark.parametrize("codec", LOSSY, ids=str)
@given(models=st.lists(halves(), min_size=1, max_size=4), trained=halves())
def test_half_floats_stay_finite_at_the_end_of_their_range(
    codec: Codec, models: list[Any], trained: Any
) -> None:
    agreed = session(up=codec, down=codec, manifest=HALF)
    server = ServerLink(agreed, {"w": np.zeros((2, 3), np.float16)}, 1)
    server.begin()
    store = MemoryStateStore()
    for number, values in enumerate(models, start=1):
        publish(server, {"w": values}, number)
        assert np.isfinite(server.public["w"]).all()
        link = ClientLink(agreed, "0", store, lambda: {"w": np.zeros((2, 3), np.float16)})
        deliver(server, link, number)
        assert equal(link.received, server.public)
        symbols, seen = link.quantise({"w": trained})
        assert np.isfinite(seen["w"]).all()
        received = whole(accept(server, link, link.reply(Update(symbols, {"w": trained})), number))
        assert np.isfinite(received["w"]).all()
        assert received["w"].dtype == np.float16


@given(
    arrays.arrays(np.float64, 5, elements=EDGES | st.floats()),
    st.sampled_from(["float16", "float32", "float64", "int64"]),
)
def test_narrowed_is_the_nearest_value_that_a_type_holds(values: Any, dtype: str) -> None:
    kind = np.dtype(dtype)
    if kind.kind == "i":
        values = np.nan_to_num(values, posinf=0, neginf=0).clip(-(2.0**53), 2.0**53)
    found = narrowed(values, kind)
    assert (found.dtype, found.shape) == (kind, values.shape)
    for value, kept in zip(values, found, strict=True):
        if kind.kind == "i":
            assert kept == int(value)
        elif not np.isfinite(value):
            assert str(kept) == str(value)
        else:
            most = float(np.finfo(kind).max)
            assert kept == kind.type(min(max(value, -most), most))


def test_narrowed_copies_nothing_that_fits() -> None:
    values = np.ones(3, np.float32)
    assert narrowed(values, np.dtype(np.float32)) is values
