from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.levels import FINE_STEP, LevelCodec, Levels
from fedcomp.codecs.nnc import Nnc
from fedcomp.codecs.uniform import Uniform
from fedcomp.coding import quantise, quantise_rate
from fedcomp.coding.reader import Reader
from fedcomp.errors import BitstreamError, CodecError, ConfigError
from fedcomp.settings import build
from fedcomp.tensors import Tensors
from tests.common import context_for

RNG = np.random.default_rng(5)
WEIGHTS = RNG.laplace(scale=0.01, size=(64, 48)).astype(np.float32)


def entropy_bytes(levels: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> float:
    counts = np.unique(levels, return_counts=True)[1]
    share = counts / levels.size
    return float(-(counts * np.log2(share)).sum() / 8)


def decoded(codec: LevelCodec, tensors: Tensors) -> Tensors:
    context = context_for(tensors)
    return codec.decode(codec.encode(tensors, context), context)


@given(
    st.sampled_from(get_args(Coder)),
    st.lists(hnp.arrays(np.int32, hnp.array_shapes(max_dims=3, min_side=0)), max_size=4),
)
def test_every_coder_gives_back_every_tensor(
    coder: Coder, arrays: list[np.ndarray[tuple[int, ...], np.dtype[np.int32]]]
) -> None:
    named = {str(i): array for i, array in enumerate(arrays)}
    coding = Coding(coder)
    reader = Reader(coding.write(named))
    read = coding.read(reader, {name: array.shape for name, array in named.items()})
    reader.end()
    assert list(read) == list(named)
    assert all(np.array_equal(read[name], named[name]) for name in named)


@pytest.mark.parametrize("coder", get_args(Coder))
def test_threads_do_not_change_the_bytes(coder: Coder, monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    named = {str(i): RNG.integers(-9, 9, size=(100 + i, 300)) for i in range(5)}
    made = []
    for threads in (1, 3):
        monkeypatch.setattr(numba, "get_num_threads", lambda n=threads: n)
        made.append(Coding(coder).write(named))
    assert made[0] == made[1]


@pytest.mark.parametrize("coder", get_args(Coder))
def test_size_is_near_the_entropy_of_the_symbols(coder: Coder) -> None:
    values = RNG.laplace(scale=0.01, size=(256, 512)).astype(np.float32)
    codec = Uniform(bits=None, step=0.005, coder=coder)
    context = context_for({"w": values})
    symbols = codec.quantise({"w": values}, context)
    size = len(codec.pack(symbols, context))
    bound = entropy_bytes(symbols["w"].levels)
    most = {
        "cabac": 1.03,
        "huffman": 1.04,
        "golomb": 1.6,
        "deflate": 1.5,
        "zstd": 1.4,
        "fixed": 2.7,
    }
    assert 0.98 * bound < size < most[coder] * bound


@pytest.mark.parametrize("bits", [2, 3, 8, 16])
def test_error_of_k_bits_is_half_a_step(bits: int) -> None:
    out = decoded(Uniform(bits=bits), {"w": WEIGHTS})["w"]
    step = np.abs(WEIGHTS).max() / (2 ** (bits - 1) - 1)
    assert np.abs(out - WEIGHTS).max() <= step * (0.5 + 1e-6)
    assert np.abs(out).max() == pytest.approx(np.abs(WEIGHTS).max(), rel=1e-6)


def test_share_clips_the_largest_only() -> None:
    out = decoded(Uniform(bits=8, share=0.99), {"w": WEIGHTS})["w"]
    edge = np.sort(np.abs(WEIGHTS).ravel())[int(np.ceil(0.99 * WEIGHTS.size)) - 1]
    inside = np.abs(WEIGHTS) <= edge
    assert 0.985 < inside.mean() < 0.995
    assert np.abs(out - WEIGHTS)[inside].max() <= edge / 127 * 0.501
    assert np.abs(out).max() == pytest.approx(edge, rel=1e-6)


def test_stochastic_rounding_is_unbiased_and_follows_its_seed() -> None:
    codec = Uniform(bits=None, step=0.02, rounding="stochastic")
    tensors = {"w": WEIGHTS}
    sums, rounds = np.zeros(WEIGHTS.shape), 400
    for number in range(rounds):
        context = context_for(tensors, number)
        sums += codec.decode(codec.encode(tensors, context), context)["w"]
    rest = np.abs(WEIGHTS / 0.02) % 1
    deviation = 0.02 * np.sqrt(rest * (1 - rest) / rounds)
    assert (np.abs(sums / rounds - WEIGHTS) <= 5.5 * deviation + 1e-7).all()
    once, again = (codec.encode(tensors, context_for(tensors, 1)) for _ in range(2))
    assert once == again != codec.encode(tensors, context_for(tensors, 2))


def test_kinds_are_treated_differently() -> None:
    tensors = {
        "w": WEIGHTS,
        "b": RNG.normal(size=64).astype(np.float32),
        "n": np.array(2**40, np.int64),
    }
    out = decoded(Uniform(bits=2), tensors)
    assert len(np.unique(out["w"])) <= 3
    assert np.abs(out["b"] - tensors["b"]).max() <= FINE_STEP / 2 + 1e-7
    assert out["n"] == 2**40


def test_fine_step_grows_where_levels_would_leave_int32() -> None:
    big = np.array([1e9, -3.0, 0.0], np.float32)
    out = decoded(Uniform(), {"b": big})["b"]
    assert np.abs(out - big).max() <= 1e9 / 2**30


def test_known_steps_cost_no_byte() -> None:
    context = context_for({"w": WEIGHTS})
    codec = Uniform(bits=None, step=0.5)
    levels = quantise.uniform(WEIGHTS, 0.004)
    sizes = [
        len(codec.pack({"w": Levels(levels, step)}, context))
        for step in (0.5, float(np.float32(0.3)))
    ]
    assert sizes[1] - sizes[0] == 4


def test_a_model_of_zeros_takes_no_more_than_its_bit_maps() -> None:
    tensors = {str(i): np.zeros((50, 50), np.float32) for i in range(20)}
    assert len(Nnc().encode(tensors, context_for(tensors))) == 1 + 3 + 1


@pytest.mark.parametrize(
    ("codec", "oracle"),
    [
        (Nnc(qp=-28), lambda w: quantise.uniform(w, 2**-7)),
        (Nnc(qp=-28, quantiser="dependent"), lambda w: quantise.dependent(w, 2**-7)),
        (
            Nnc(qp=-28, quantiser="rate_distortion", rate_weight=0.1),
            lambda w: quantise_rate.rate_distortion(w, 2**-7, 0.1),
        ),
        (
            Nnc(qp=None, step=2**-7, quantiser="weighted", rate_weight=0.1, interval=3),
            lambda w: quantise_rate.weighted_rate_distortion(w, 2**-7, 3 * 2**-7, 0.1),
        ),
    ],
    ids=["uniform", "dependent", "rate_distortion", "weighted"],
)
def test_quantisers_of_nnc(codec: Nnc, oracle) -> None:  # type: ignore[no-untyped-def]
    context = context_for({"w": WEIGHTS})
    symbols = codec.unpack(codec.encode({"w": WEIGHTS}, context), context)
    assert np.array_equal(symbols["w"].levels, oracle(WEIGHTS))
    assert symbols["w"].step == 2**-7


def test_rate_weight_buys_bytes_with_error() -> None:
    values = RNG.laplace(scale=0.01, size=(256, 256)).astype(np.float32)
    context = context_for({"w": values})
    points = []
    for weight in (0.0, 0.1, 0.4):
        codec = Nnc(qp=-28, quantiser="rate_distortion", rate_weight=weight)
        data = codec.encode({"w": values}, context)
        error = float(np.square(codec.decode(data, context)["w"] - values).mean())
        points.append((len(data), error))
    assert points[0][0] > points[1][0] > points[2][0]
    assert points[0][1] < points[1][1] < points[2][1]


def test_important_weights_are_spared() -> None:
    codec = Nnc(qp=-24, quantiser="weighted", rate_weight=0.5)
    context = context_for({"w": WEIGHTS})
    importance = np.full(WEIGHTS.shape, 0.2)
    importance[:32] = 0.002
    symbols = codec.quantise_weighted({"w": WEIGHTS}, {"w": importance}, context)
    error = np.abs(codec.reconstruct(symbols, context)["w"] - WEIGHTS)
    assert np.array_equal(symbols["w"].levels[:32], quantise.uniform(WEIGHTS[:32], 2**-6))
    assert error[32:].mean() > 1.05 * error[:32].mean()
    with pytest.raises(CodecError, match="set quantiser=weighted"):
        Nnc().quantise_weighted({"w": WEIGHTS}, {"w": importance}, context)


def test_the_last_packet_helps_where_it_is_alike() -> None:
    mask = RNG.random(WEIGHTS.shape) < 0.1
    old, new = (np.where(mask, RNG.normal(size=WEIGHTS.shape), 0).astype(np.float32) for _ in "ab")
    codec = Nnc(qp=None, step=0.5, temporal=True)
    context = context_for({"w": new})
    informed = replace(context, previous=codec.quantise({"w": old}, context))
    plain, short = (codec.encode({"w": new}, c) for c in (context, informed))
    assert len(short) < 0.8 * len(plain)
    assert np.array_equal(codec.decode(short, informed)["w"], codec.decode(plain, context)["w"])


def test_nothing_that_is_not_finite_is_sent() -> None:
    bad = np.array([[np.inf, 1.0]], np.float32)
    with pytest.raises(CodecError, match="'w' holds values that are not finite"):
        Uniform().encode({"w": bad}, context_for({"w": bad}))


def test_levels_beyond_int32_name_the_tensor() -> None:
    bad = np.full((2, 2), 1e9, np.float32)
    with pytest.raises(CodecError, match=r"tensor 'w': .* raise the step"):
        Nnc(qp=-75).encode({"w": bad}, context_for({"w": bad}))


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (Uniform, {"bits": 4, "step": 0.1}),
        (Uniform, {"bits": None}),
        (Nnc, {"step": 0.1}),
        (Nnc, {"qp": None}),
    ],
)
def test_steps_are_given_once(cls: type[LevelCodec], values: dict[str, float | None]) -> None:
    with pytest.raises(ConfigError, match=r"give (either bits or step|one of qp, step and bits)"):
        build(cls, values, "uplink")


def test_frames_are_canonical() -> None:
    context = context_for({"w": WEIGHTS})
    codec = Uniform(bits=None, step=0.5)
    good = codec.pack({"w": Levels(np.ones(WEIGHTS.shape, np.int32), 0.5)}, context)
    zeros = Coding("cabac").write({"w": np.zeros(WEIGHTS.shape, np.int32)})
    assert good[:3] == b"\0\x80\0"
    for bad in (
        b"\0\x40" + good[2:],  # a second tensor
        b"\0\x80\2" + good[3:],  # an unknown flag
        b"\0\x80\1" + np.float32(0.5).tobytes() + good[3:],  # a step that is known
        b"\0\x80\1" + np.float32(np.nan).tobytes() + good[3:],
        b"\0\x80\0" + zeros,  # no value
    ):
        with pytest.raises(BitstreamError):
            codec.unpack(bad, context)
