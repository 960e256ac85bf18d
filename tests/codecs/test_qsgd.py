from __future__ import annotations

import numpy as np
import pytest

from fedcomp.building import build
from fedcomp.codecs.numbered import Numbered
from fedcomp.codecs.qsgd import Qsgd
from fedcomp.errors import BitstreamError, CodecError, ConfigError
from tests.common import context_for

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(30, 40)).astype(np.float32)
ROUNDS = 400


@pytest.mark.parametrize("bucket", [None, 64])
@pytest.mark.parametrize("s", [1, 4, 100])
def test_unbiased_with_the_variance_of_the_paper(s: int, bucket: int | None) -> None:
    codec, tensors = Qsgd(s=s, bucket=bucket), {"w": WEIGHTS}
    drawn = []
    for number in range(ROUNDS):
        context = context_for(tensors, number)
        drawn.append(codec.decode(codec.encode(tensors, context), context)["w"])
    outputs = np.stack(drawn).astype(np.float64).reshape(ROUNDS, -1)
    flat = WEIGHTS.reshape(-1).astype(np.float64)
    width = bucket or flat.size
    norms = [np.linalg.norm(flat[at : at + width]) for at in range(0, flat.size, width)]
    steps = np.repeat(norms, width)[: flat.size] / s
    rest = np.abs(flat / steps) % 1
    variances = steps**2 * rest * (1 - rest)
    deviations = np.abs(outputs.mean(axis=0) - flat)
    assert (deviations <= 6 * np.sqrt(variances / ROUNDS) + 0.02 * steps).all()
    assert np.square(deviations).sum() == pytest.approx(variances.sum() / ROUNDS, rel=0.25)
    errors = np.square(outputs - flat).sum(axis=1)
    assert errors.mean() == pytest.approx(variances.sum(), rel=0.03)
    for at, norm in zip(range(0, flat.size, width), norms, strict=True):
        part = slice(at, at + width)
        n = flat[part].size
        bound = min(n / s**2, np.sqrt(n) / s) * norm**2
        assert np.square(outputs - flat)[:, part].sum(axis=1).mean() <= bound


def test_levels_are_whole_shares_of_the_norm() -> None:
    tensors = {"w": np.array([[3.0, -4.0], [0.0, 0.0], [0.0, 2.0]], np.float32)}
    context = context_for(tensors)
    codec = Qsgd(s=5, bucket=2)
    symbol = codec.unpack(codec.encode(tensors, context), context)["w"]
    assert symbol.levels.tolist() == [[3, -4], [0, 0], [0, 5]]
    assert symbol.numbers.tolist() == [5.0, 0.0, 2.0]
    assert np.array_equal(codec.decode(codec.encode(tensors, context), context)["w"], tensors["w"])


def test_a_bucket_costs_four_bytes_and_a_weight_the_bits_of_its_levels() -> None:
    tensors = {"w": RNG.normal(size=(64, 64)).astype(np.float32)}
    sizes = [
        len(Qsgd(s=7, bucket=bucket, coder="fixed").encode(tensors, context_for(tensors)))
        for bucket in (16, 32)
    ]
    assert sizes[0] - sizes[1] == 4 * (256 - 128)
    assert 0 <= sizes[0] - (4 * 256 + 4096 * 4 // 8) < 20


def test_the_norm_of_doubles_is_no_level_too_large() -> None:
    tensors = {"w": np.full((200, 100), 1 + 2.0**-24)}  # 1 in float32
    context = context_for(tensors)
    symbol = Qsgd(s=32767, bucket=1).quantise(tensors, context)["w"]
    assert (symbol.numbers == 1).all()
    assert (symbol.levels == 32767).all()


def test_values_next_to_nothing_are_zeros_and_huge_ones_are_refused() -> None:
    tiny = {"w": np.array([[1e-40, 1.0]], np.float32)}
    context = context_for(tiny)
    codec = Qsgd(bucket=1)
    assert codec.decode(codec.encode(tiny, context), context)["w"].tolist() == [[0.0, 1.0]]
    only = {"w": np.array([[1e-300, -1e-40]])}
    assert not codec.decode(codec.encode(only, context), context)["w"].any()
    for size in (1e200, 2.0**96.9):
        huge = {"w": np.full((2, 2), size)}
        with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
            Qsgd().encode(huge, context_for(huge))


def test_half_floats_stay_finite() -> None:
    tensors = {"w": np.full((2, 2), 65504, np.float16)}
    context = context_for(tensors)
    codec = Qsgd(mode="absolute", s=1)
    out = codec.decode(codec.encode(tensors, context), context)["w"]
    assert set(np.unique(out)) <= {0, 65504}
    assert out.any()


@pytest.mark.parametrize(
    ("levels", "norms", "message"),
    [
        ([[6, 0], [0, 0]], [5, 0], "beyond 5"),
        ([[3, 0], [0, 1]], [5, 0], "empty bucket"),
        ([[3, -4], [0, 0]], [-5, 0], "no sender"),
        ([[3, -4], [0, 0]], [1e-40, 0], "no sender"),
        ([[3, -4], [0, 0]], [2.0**97, 0], "no sender"),
        ([[3, -4], [0, 0]], [np.nan, 0], "finite"),
    ],
)
def test_symbols_that_no_sender_writes_are_refused(
    levels: list[list[int]], norms: list[float], message: str
) -> None:
    tensors = {"w": np.array([[3.0, -4.0], [0.0, 0.0]], np.float32)}
    context = context_for(tensors)
    codec = Qsgd(s=5, bucket=2, coder="fixed")
    symbol = Numbered(np.array(levels, np.int32), np.array(norms, np.float32))
    with pytest.raises(BitstreamError, match=message):
        codec.unpack(codec.pack({"w": symbol}, context), context)


@pytest.mark.parametrize("values", [{"s": 0}, {"s": 40_000}, {"bucket": 0}, {"coder": "morse"}])
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(Qsgd, values, "uplink")
