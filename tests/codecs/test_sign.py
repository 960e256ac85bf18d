from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedcomp.building import build
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.levels import Levels
from fedcomp.codecs.sign import Sign, SignCoding
from fedcomp.codecs.signsgd import SignSgd
from fedcomp.errors import BitstreamError, CodecError, ConfigError
from fedcomp.tensors import Array
from tests.common import context_for

RNG = np.random.default_rng(6)


def decoded(values: Array, codec: Sign = Sign()) -> Array:  # noqa: B008
    context = context_for({"w": values})
    return codec.decode(codec.encode({"w": values}, context), context)["w"]


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=3),
        elements=st.sampled_from([-3.5, -1.0, -0.25, 0.0, 0.5, 2.0, 100.0]),
    )
)
def test_contraction_is_exact(values: Array) -> None:
    wide = values.astype(np.float64)
    whole, sizes = np.square(wide).sum(), np.abs(wide).sum()
    share = 1 - sizes**2 / (wide.size * whole) if whole else 0.0
    error = np.square(wide - decoded(values)).sum()
    assert error == pytest.approx(share * whole, rel=1e-6, abs=1e-6 * whole)


def test_signs_and_their_size() -> None:
    out = decoded(np.array([[3.0, -1.0], [0.0, -0.0]], np.float32))
    assert out.tolist() == [[1.0, -1.0], [1.0, 1.0]]


@pytest.mark.parametrize("coder", get_args(Coder))
def test_a_weight_takes_one_bit(coder: Coder) -> None:
    tensors = {"w": RNG.normal(size=(200, 400)).astype(np.float32)}
    size = len(Sign(coder=coder).encode(tensors, context_for(tensors)))
    most = {"golomb": 1.6, "deflate": 1.3, "zstd": 1.4}.get(coder, 1.03)
    assert 10_000 * 0.99 < size <= 10_000 * most
    if coder == "fixed":
        assert size <= 10_000 + 16


def test_what_is_no_sign_is_refused() -> None:
    context = context_for({"w": np.ones((2, 2), np.float32)})
    for wrong in (0, 2, -3):
        levels = np.array([[1, -1], [1, wrong]], np.int32)
        with pytest.raises(CodecError, match="tensor 'w': the levels of signs"):
            Sign().pack({"w": Levels(levels, 0.5)}, context)
        bits = memoryview(Coding("fixed").encode(np.array([0, 1, wrong or -1])))
        with pytest.raises(BitstreamError, match=r"neither 0 nor 1$"):
            SignCoding("fixed").decode(bits, (3,))
    for wrong in (2, -2):
        levels = np.array([[1, -1], [0, wrong]], np.int32)
        with pytest.raises(CodecError, match="tensor 'w': the levels of signs are 1, 0 and -1"):
            SignSgd(step=0.5).pack({"w": Levels(levels, 0.5)}, context)
    for code in (3, -1):
        bits = memoryview(Coding("fixed").encode(np.array([0, 2, code])))
        with pytest.raises(BitstreamError, match="neither 0 nor 1 nor 2"):
            SignCoding("fixed", zeros=True).decode(bits, (3,))


def test_values_next_to_nothing_are_zeros_and_huge_ones_are_refused() -> None:
    assert not decoded(np.full((2, 2), 1e-40, np.float32)).any()
    with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
        decoded(np.full((2, 2), 1e200))


VOTES = np.array([[3.0, -0.25, 0.0], [-0.0, 1e-40, -1e30]], np.float32)


@pytest.mark.parametrize("coder", get_args(Coder))
def test_votes_are_of_one_size_and_may_be_nothing(coder: Coder) -> None:
    out = decoded(VOTES, SignSgd(step=0.5, coder=coder))
    assert out.tolist() == [[0.5, -0.5, 0.0], [0.0, 0.5, -0.5]]


def test_the_size_of_votes_costs_nothing() -> None:
    tensors = {f"w{i}": RNG.normal(size=(40, 50)).astype(np.float32) for i in range(9)}
    context = context_for(tensors)
    codecs = SignSgd(coder="fixed"), Sign()
    sizes = [len(codec.encode(tensors, context)) for codec in codecs]
    assert sizes[1] - sizes[0] == 4 * 9
    assert sizes[0] <= 9 * 250 + 9 * 4 + 4
    tensors["w0"][3, 4] = 0
    assert len(codecs[0].encode(tensors, context)) == sizes[0] + 250, "two bits in this one"


def test_signs_of_signsgd() -> None:
    codec = SignSgd()
    assert codec == SignSgd(step=0.01, coder="cabac")
    assert np.array_equal(decoded(VOTES, codec), np.float32(0.01) * np.sign(VOTES))
    assert Sign().contracts
    assert not codec.contracts


@pytest.mark.parametrize("values", [{"step": 0}, {"step": 1e30}, {"coder": "morse"}])
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(SignSgd, values, "uplink")
