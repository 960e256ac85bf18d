from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedcomp.building import build
from fedcomp.codecs.base import Context
from fedcomp.codecs.levels import Levels
from fedcomp.codecs.numbered import Numbered
from fedcomp.codecs.powersgd import PowerSgd, orthonormal
from fedcomp.errors import BitstreamError, CodecError, ConfigError
from fedcomp.link.settings import LinkSettings
from fedcomp.link.stores import MemoryStateStore
from fedcomp.tensors import Array, Kind, Manifest, TensorSpec, add, subtract
from tests.common import context_for
from tests.link.common import BIG, accept, answer, client, deliver, publish, serve, session

RNG = np.random.default_rng(3)
SHAPE = (24, 5, 9)


def spectrum(decay: float, shape: tuple[int, ...] = SHAPE) -> Array:
    """Return a tensor whose matrix has the singular values 1, 2^−decay, 3^−decay …"""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    count = min(rows, columns)
    left, right = (np.linalg.qr(RNG.normal(size=(n, count)))[0] for n in (rows, columns))
    values = np.arange(1, count + 1) ** -decay
    return ((left * values) @ right.T).reshape(shape).astype(np.float32)


def of_rank(rank: int, shape: tuple[int, ...] = SHAPE) -> Array:
    """Return a tensor whose matrix has that rank."""
    rows = RNG.normal(size=(shape[0], rank))
    return (rows @ RNG.normal(size=(rank, int(np.prod(shape[1:]))))).reshape(shape)


def truncated(values: Array, rank: int) -> float:
    """Return the error of the best matrix of that rank."""
    matrix = values.reshape(len(values), -1).astype(np.float64)
    sizes = np.linalg.svd(matrix, compute_uv=False)
    return float(np.sqrt(np.square(sizes[rank:]).sum()))


def send(
    codec: PowerSgd, values: Array, number: int = 3, previous: Any = None
) -> tuple[Any, Array]:
    """Return what arrives of a tensor: its symbol, and its values."""
    context = replace(context_for({"w": values}, number), previous=previous)
    data = codec.encode({"w": values}, context)
    alone = context_for({"w": values}, number)
    return codec.unpack(data, alone)["w"], codec.decode(data, alone)["w"]


def error(values: Array, out: Array) -> float:
    return float(np.linalg.norm((out.astype(np.float64) - values).reshape(-1)))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_a_matrix_of_no_higher_rank_is_exact_but_for_rounding(rank: int) -> None:
    values = of_rank(rank)
    for more in (0, 2):
        out = send(PowerSgd(rank=rank + more, bits=24), values)[1]
        assert out.shape == values.shape
        assert error(values, out) < 1e-5 * np.linalg.norm(values)
    assert error(values, send(PowerSgd(rank=rank), values)[1]) < 0.05 * np.linalg.norm(values)


@pytest.mark.parametrize("rank", [1, 3])
def test_one_packet_is_one_step_of_subspace_iteration(rank: int) -> None:
    values = spectrum(0.5)
    matrix = values.reshape(24, 45).astype(np.float64)
    drawn = context_for({"w": values}).generator("w").standard_normal((45, rank))
    basis = np.linalg.qr(matrix @ drawn)[0]
    symbol, out = send(PowerSgd(rank=rank, bits=24), values)
    assert np.allclose(out.reshape(24, 45), basis @ (basis.T @ matrix), atol=1e-6)
    left, right = (part * step for part, step in zip(
        np.split(symbol.levels, [24]), symbol.numbers.astype(np.float64), strict=True
    ))  # fmt: skip
    assert np.allclose(left.T @ left, np.eye(rank), atol=1e-5)
    whole = np.square(matrix).sum()
    assert error(values, out) ** 2 == pytest.approx(whole - np.square(right).sum(), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_warm_packets_of_one_matrix_come_as_near_as_its_svd(rank: int) -> None:
    values = spectrum(0.7)
    best = truncated(values, rank)
    codec, symbol, errors = PowerSgd(rank=rank), None, []
    for number in range(20):
        symbol, out = send(codec, values, number, {"w": symbol} if number else None)
        errors.append(error(values, out))
    assert min(errors) >= best * (1 - 1e-6)
    assert errors[-1] < 1.01 * best < errors[0]
    cold = PowerSgd(rank=rank, warm_start=False)
    again = [error(values, send(cold, values, n, {"w": symbol})[1]) for n in range(10)]
    assert min(again) > 1.02 * best
    assert len(set(again)) == 10


def test_eight_bits_cost_next_to_nothing_beside_what_the_rank_leaves_out() -> None:
    values = spectrum(0.7, (64, 300))
    for rank in (1, 2, 4):
        coarse, fine = (
            error(values, send(PowerSgd(rank=rank, bits=b), values)[1]) for b in (8, 24)
        )
        assert fine * 0.999 < coarse < fine * 1.005


def test_a_last_packet_of_zeros_starts_nothing() -> None:
    values = spectrum(1.0)
    first = send(PowerSgd(), values)[1]
    for last in ({}, {"w": Levels.zeros(SHAPE)}):
        assert np.array_equal(send(PowerSgd(), values, previous=last)[1], first)


def test_a_column_that_was_lost_comes_back() -> None:
    narrow, wide = of_rank(1), of_rank(2)
    symbol = send(PowerSgd(), narrow)[0]
    symbol.levels[24:, 1] = 0
    out = send(PowerSgd(bits=24), wide, previous={"w": symbol})[1]
    assert error(wide, out) < 1e-5 * np.linalg.norm(wide)


def test_columns_become_orthonormal() -> None:
    for number in range(30):
        rng = np.random.default_rng(number)
        rows, count = int(rng.integers(5, 40)), int(rng.integers(1, 6))
        columns = rng.normal(size=(rows, count))
        columns[:, -1] += columns[:, 0] * 1e6  # hardly another direction
        columns *= 10.0 ** rng.integers(-25, 25, count)
        out = orthonormal(columns)
        assert np.allclose(out.T @ out, np.eye(count), atol=1e-12)
        signs = np.sign(np.diag(np.linalg.qr(columns)[1]))
        assert np.allclose(out[:, 0], np.linalg.qr(columns)[0][:, 0] * signs[0])


def test_dependent_columns_become_zeros() -> None:
    one, two = RNG.normal(size=(2, 9))
    out = orthonormal(np.stack([0 * one, one, 3 * one, two, one - 2 * two, 0 * two], axis=1))
    assert out.any(axis=0).tolist() == [False, True, False, True, False, False]
    assert np.allclose(np.square(out).sum(axis=0), [0, 1, 0, 1, 0, 0])
    values = np.tile(RNG.normal(size=(30, 1)), (1, 20))  # all columns the same
    assert error(values, send(PowerSgd(rank=3, bits=24), values)[1]) < 1e-5 * np.linalg.norm(values)


def test_the_receiver_adds_outer_products_in_order() -> None:
    symbol, out = send(PowerSgd(rank=3), spectrum(0.5, (7, 9)))
    left, right = (
        (part * float(step)).tolist()
        for part, step in zip(np.split(symbol.levels, [7]), symbol.numbers, strict=True)
    )
    expected = [
        [((p[0] * q[0]) + p[1] * q[1]) + p[2] * q[2] for q in right] for p in left
    ]  # fmt: skip
    assert np.array_equal(out, np.array(expected).astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "rank", "factors"),
    [
        ((4, 4), 2, 0),
        ((4, 5), 2, 18),
        ((1, 50), 1, 0),
        ((50,), 1, 0),
        ((), 1, 0),
        ((9, 2, 3), 3, 45),
    ],
)
def test_only_what_becomes_fewer_values_is_factored(
    shape: tuple[int, ...], rank: int, factors: int
) -> None:
    spec = TensorSpec("w", shape, "float32", Kind.WEIGHT)
    context = Context(Manifest((spec,)), 1, 3, "uplink")
    values = RNG.normal(size=shape).astype(np.float32)
    codec = PowerSgd(rank=rank, coder="fixed")
    data = codec.encode({"w": values}, context)
    symbol = codec.unpack(data, context)["w"]
    assert symbol.levels.size == (factors or values.size)
    assert symbol.numbers.size == (2 if factors else 1)
    out = codec.decode(data, context)["w"]
    assert out.shape == shape
    if not factors:
        assert np.abs(out - values).max() <= symbol.numbers[0] * 0.5001


def resnet18_shapes() -> list[tuple[int, ...]]:
    """Return the shapes of ResNet-18's parameters, with the stem for CIFAR."""
    weights: list[tuple[int, ...]] = [(64, 3, 3, 3)]
    for before, width in ((64, 64), (64, 128), (128, 256), (256, 512)):
        weights += [(width, before, 3, 3), *[(width, width, 3, 3)] * 3]
        weights += [(width, before, 1, 1)] if before != width else []
    norms = [shape[:1] for shape in weights for _ in range(2)]
    return [*weights, (10, 512), *norms, (10,)]


@pytest.mark.parametrize(("rank", "ratio"), [(1, 243), (2, 136), (4, 72)])
def test_the_values_of_resnet18_are_as_many_as_in_the_paper(rank: int, ratio: int) -> None:
    specs = [
        TensorSpec(str(i), shape, "float32", Kind.WEIGHT)
        for i, shape in enumerate(resnet18_shapes())
    ]
    total = sum(spec.size for spec in specs)
    assert total == 11_173_962
    sent = sum(int(np.prod(PowerSgd(rank=rank).weight_shape(spec))) for spec in specs)
    assert round(total / sent) == ratio


def test_a_value_of_the_factors_costs_its_bits() -> None:
    values = {"w": RNG.normal(size=(128, 256)).astype(np.float32)}
    for bits in (4, 8, 16):
        data = PowerSgd(rank=3, bits=bits, coder="fixed").encode(values, context_for(values))
        assert 0 <= len(data) - (3 * (128 + 256) * bits // 8 + 8) < 20


def test_an_error_is_never_longer_than_the_tensor() -> None:
    for number in range(80):
        rng = np.random.default_rng(number)
        rows, columns = (int(n) for n in rng.integers(6, 60, 2))
        values = rng.normal(size=(rows, columns)) ** (1 + 2 * (number % 3))
        values *= rng.random(values.shape) < (1, 0.3, 0.03)[number % 3]
        if not values.any():
            continue
        out = send(PowerSgd(rank=1 + number % 2, bits=4), values)[1]
        assert error(values, out) <= np.linalg.norm(values)


def test_values_next_to_nothing_are_zeros_and_huge_ones_are_refused() -> None:
    for size in (1e-300, 1e-39):
        tiny = {"w": np.full((8, 9), size)}
        symbol = PowerSgd().quantise(tiny, context_for(tiny))["w"]
        assert isinstance(symbol, Levels)
        assert symbol.step == 0
    small = np.full((8, 9), 1e-30)
    assert error(small, send(PowerSgd(), small)[1]) < 0.01 * np.linalg.norm(small)
    large = np.full((8, 9), 2.0**96)
    assert error(large, send(PowerSgd(), large)[1]) < 0.01 * np.linalg.norm(large)
    for size in (1e200, 2.0**97):
        huge = {"w": np.full((8, 9), size)}
        with pytest.raises(CodecError, match=r"tensor 'w': values that need a step of"):
            PowerSgd().encode(huge, context_for(huge))


def test_the_largest_values_stay_finite() -> None:
    spec = TensorSpec("w", (200, 200), "float32", Kind.WEIGHT)
    context = Context(Manifest((spec,)), 1, 3, "uplink")
    codec = PowerSgd(rank=64, bits=24)
    levels = np.full((400, 64), 2**24 - 1, np.int32)
    steps = np.array(
        [1 / (2**24 - 1), np.nextafter(np.float32(2.0**97), np.float32(0))], np.float32
    )
    data = codec.pack({"w": Numbered(levels, steps)}, context)
    assert np.isfinite(codec.decode(data, context)["w"]).all()


@pytest.mark.parametrize(
    ("levels", "steps", "message"),
    [
        ({}, None, ""),
        ({(1, 0): 8}, None, "beyond 4 bits"),
        ({(1, 0): -8}, None, "beyond 4 bits"),
        ({(4, 0): 16}, None, "beyond 4 bits"),
        ({(0, 0): 0, (2, 0): 0, (3, 0): 0}, None, "zeros only"),
        ({(4, 0): 0, (7, 0): 0}, None, "zeros only"),
        ({}, [0.15, 1.0], "longer than 1"),
        ({}, [0.1, 2.0**97], "no sender"),
        ({}, [0.1, 1e-40], "no sender"),
        ({}, [0.1, 0.0], "no sender"),
        ({}, [-0.1, 1.0], "no sender"),
        ({}, [np.nan, 1.0], "finite"),
    ],
)
def test_symbols_that_no_sender_writes_are_refused(
    levels: dict[tuple[int, int], int], steps: list[float] | None, message: str
) -> None:
    context = context_for({"w": np.ones((4, 5), np.float32)})
    codec = PowerSgd(rank=1, bits=4, coder="fixed")
    given = np.array([[7], [0], [-7], [1], [15], [0], [0], [3], [0]], np.int32)
    for at, value in levels.items():
        given[at] = value
    symbol = Numbered(given, np.array(steps or [0.125, 1.0], np.float32))
    data = codec.pack({"w": symbol}, context)
    if message:
        with pytest.raises(BitstreamError, match=message):
            codec.unpack(data, context)
    else:
        assert np.array_equal(codec.unpack(data, context)["w"].levels, given)


@pytest.mark.parametrize("feedback", [True, False])
def test_the_link_carries_the_last_factor_to_the_next_packet(feedback: bool) -> None:
    agreed = session(
        up=PowerSgd(rank=1), manifest=BIG, link=LinkSettings(feedback=feedback, verify=True)
    )
    server, store = serve(agreed), MemoryStateStore()
    change = {"w": spectrum(0.7, (30, 40))}
    best, errors, total = truncated(change["w"], 1), [], np.zeros((30, 40))
    for number in range(1, 13):
        link = client(agreed, store)
        deliver(server, link, number)
        blob = answer(link, add(link.received, change))
        received = accept(server, link, blob, number)
        got = subtract({"w": received.tensor("w")}, server.exact)["w"]
        errors.append(error(change["w"], got))
        total += got
        publish(server, server.exact, number, "0")
    if feedback:
        assert error(change["w"], total / 12) < 0.85 * best
    else:
        assert errors[-1] < 1.01 * best < errors[0]


@pytest.mark.parametrize(
    "values",
    [{"rank": 0}, {"rank": 65}, {"bits": 3}, {"bits": 25}, {"warm_start": 2}, {"coder": "morse"}],
)
def test_settings_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        build(PowerSgd, values, "uplink")


def test_only_warm_packets_use_the_last_one() -> None:
    assert PowerSgd().uses_previous
    assert not PowerSgd(warm_start=False).uses_previous
    with pytest.raises(ConfigError, match="mode"):
        build(PowerSgd, {"mode": "update"}, "uplink")
