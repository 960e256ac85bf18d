from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedcomp.building import build
from fedcomp.codecs.base import Codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.levels import FINE_STEP, LevelCodec, Levels
from fedcomp.codecs.nnc import Nnc
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.uniform import Uniform
from fedcomp.coding import nnc, quantise, quantise_rate
from fedcomp.coding.reader import Reader
from fedcomp.errors import BitstreamError, CodecError, ConfigError
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


@settings(deadline=None)
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
    found = coding.sections(reader, {name: array.shape for name, array in named.items()})
    read = {name: levels() for name, levels in found.items()}
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
    importance = np.full(WEIGHTS.shape, 0.1)
    importance[:32] = 1000.0  # counts as 64
    symbols = codec.quantise_weighted({"w": WEIGHTS}, {"w": importance}, context)
    error = np.abs(codec.reconstruct(symbols, context)["w"] - WEIGHTS)
    alike = codec.quantise_weighted({"w": WEIGHTS}, {"w": np.ones_like(WEIGHTS)}, context)
    plain = codec.quantise({"w": WEIGHTS}, context)
    assert np.array_equal(alike["w"].levels, plain["w"].levels)
    near = symbols["w"].levels[:32] - quantise.uniform(WEIGHTS[:32], 2**-6)
    assert np.count_nonzero(near) < 0.1 * near.size
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
        b"\0\xc0" + good[2:],  # a second tensor
        b"\0\x80\2" + good[3:],  # an unknown flag
        b"\0\x80\1" + np.float32(0.5).tobytes() + good[3:],  # a step that is known
        b"\0\x80\1" + np.float32(np.nan).tobytes() + good[3:],
        b"\0\x80\0" + zeros,  # no value
    ):
        with pytest.raises(BitstreamError):
            codec.unpack(bad, context)


def test_stochastic_rounding_leaves_whole_levels_alone_however_large() -> None:
    codec = Uniform(bits=None, step=1.0, rounding="stochastic")
    whole = np.float32([[1, -1, 2**20, -(2**22), 2**24, 0]])
    quarter = np.full((300, 300), 2**20 + 0.25, np.float32)
    tensors = {"whole": whole, "quarter": quarter}
    out = decoded(codec, tensors)
    assert np.array_equal(out["whole"], whole)
    assert out["quarter"].astype(np.float64).mean() - 2**20 == pytest.approx(0.25, abs=0.008)


@pytest.mark.parametrize("bits", [2, 8])
def test_stochastic_levels_stay_within_their_bits(bits: int) -> None:
    values = np.abs(RNG.normal(size=(40, 40))).astype(np.float32)
    values[0, 0] = -1e-9  # signed, although hardly
    codec = Uniform(bits=bits, share=0.5, rounding="stochastic")
    context = context_for({"w": values})
    levels = codec.quantise({"w": values}, context)["w"].levels
    assert levels.max() == 2 ** (bits - 1) - 1


def test_bits_of_nnc_clip_the_largest_non_zeros_only() -> None:
    values = np.zeros((500, 500), np.float32)
    values.ravel()[:10_000] = np.sort(RNG.normal(size=10_000))
    codec = Nnc(qp=None, bits=6)
    symbols = codec.quantise({"w": values}, context_for({"w": values}))["w"]
    sizes = np.sort(np.abs(values[values != 0]))
    assert symbols.step == np.float32(sizes[9995 - 1] / 31)  # 0.9995 of 10,000
    assert (symbols.levels.min(), symbols.levels.max()) == (-31, 31)


def test_empty_rows_cost_nearly_nothing_and_the_search_pays() -> None:
    levels = np.zeros((400, 300), np.int32)
    levels[::40] = RNG.integers(-3, 4, size=(10, 300))
    written = len(Coding("cabac").encode(levels))
    assert written < len(nnc.encode_levels(levels, search_init=True)) - 60
    assert written == len(nnc.encode_levels(levels, row_skip=True, search_init=True))
    assert written < len(nnc.encode_levels(levels, row_skip=True))
    full = RNG.integers(1, 4, size=(400, 300)).astype(np.int32)
    assert len(Coding("cabac").encode(full)) == len(nnc.encode_levels(full, search_init=True))


def test_symbols_made_by_hand_are_checked() -> None:
    codec, context = Uniform(), context_for({"w": WEIGHTS})
    ones = np.ones(WEIGHTS.shape, np.int32)
    for bad in (Levels(ones * 0, 0.5), Levels(ones, 0.0), Levels(ones, 0.1)):
        with pytest.raises(CodecError, match="'w' has levels with step"):
            codec.pack({"w": bad}, context)


@pytest.mark.parametrize(
    "codec", [Uniform(), NoCompression(), Cast(), Cast(mode="absolute")], ids=str
)
def test_integers_of_another_width_travel_and_wrong_ones_are_refused(codec: Codec) -> None:
    context = context_for({"n": np.array([1, 2], np.int64)})
    sent = codec.encode({"n": np.array([5, 6], np.int32)}, context)
    assert codec.decode(sent, context)["n"].tolist() == [5, 6]
    with pytest.raises(CodecError, match="'n' of float64 cannot travel as int64"):
        codec.encode({"n": np.array([0.5, 1])}, context)


def test_values_beyond_float32_are_refused_by_name() -> None:
    bad = np.full((2, 2), 1e200)
    with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of .* too large"):
        Uniform().encode({"w": bad}, context_for({"w": bad}))
    with pytest.raises(CodecError, match=r"tensor 'w': step 0\.0 is impossible"):
        Nnc(qp=None, step=0.0).encode({"w": WEIGHTS}, context_for({"w": WEIGHTS}))


def test_half_floats_stay_finite() -> None:
    values = np.full((2, 2), 65504, np.float16)
    codec = Uniform(mode="absolute", bits=None, step=1000.0)
    assert np.isfinite(decoded(codec, {"w": values})["w"].astype(np.float16)).all()


def test_importance_of_nobody_is_an_error() -> None:
    codec = Nnc(quantiser="weighted")
    context = context_for({"w": WEIGHTS})
    with pytest.raises(CodecError, match="'W' is not part of the model"):
        codec.quantise_weighted({"w": WEIGHTS}, {"W": WEIGHTS}, context)
    for bad in (-1.0, np.nan, np.inf):
        importance = np.full(WEIGHTS.shape, bad)
        with pytest.raises(CodecError, match=r"tensor 'w': importance is to be finite and not"):
            codec.quantise_weighted({"w": WEIGHTS}, {"w": importance}, context)
