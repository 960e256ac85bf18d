"""8,500 damaged NNC payloads and streams; see `hostile`."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcomp.coding import quantise
from fedcomp.coding.nnc import decode_levels, encode_levels
from fedcomp.coding.nnc_stream import Node, read_model, write_model
from fedcomp.coding.nnc_stream_units import TENSOR, get_tensor, put_tensor, room
from fedcomp.coding.nnc_syntax import unit, units
from fedcomp.errors import BitstreamError
from tests.coding.hostile import LIES, Reader, Sample, attack, mutate

LOWEST, HIGHEST = -(2**31), 2**31 - 1
PAYLOAD_BYTES = 5
"""A level takes 4, and a row of 2 or more levels takes one."""
STREAM_BYTES = PAYLOAD_BYTES + 4
"""`read` below asks for values, too."""
MAX_ELEMENTS = 1 << 27
"""What `read_model` allows by itself."""


def check(levels: NDArray[Any], shape: tuple[int, ...]) -> None:
    assert levels.dtype == np.int32
    assert levels.shape == shape


def tensors(dependent: bool) -> list[NDArray[Any]]:
    """Return levels that the quantiser can spell; those of the last need every bit of int32."""
    rng = np.random.default_rng(21)
    weights = [rng.laplace(0, 2, shape) for shape in ((24, 30), (4, 3, 3, 3), (200,), (1, 90), ())]
    weights[0][rng.random(24) < 0.5] = 0
    weights[2][rng.random(200) < 0.95] = 0
    quantiser = quantise.dependent if dependent else quantise.uniform
    found: list[NDArray[Any]] = [quantiser(values, 0.5) for values in weights]
    return [*found, np.array([[LOWEST, 0], [HIGHEST - 1, -2], [0, 0]], np.int32)]


def payload_reader(
    shape: tuple[int, ...], dependent: bool, base: NDArray[np.int32] | None
) -> Reader:
    def read(data: bytes) -> None:
        check(decode_levels(data, shape, dependent=dependent, base=base), shape)

    return Reader(read, PAYLOAD_BYTES * math.prod(shape))


def test_payloads() -> None:
    rng = np.random.default_rng(22)
    samples, strangers = [], []
    shapes = [(30, 24), (720,), (0, 3), (3, 0), (0,), (2, 1), (1000, 1000), (500_000, 2)]
    flags = (False, True)
    for dependent, with_base in itertools.product(flags, flags):

        def base(shape: tuple[int, ...], with_base: bool = with_base) -> NDArray[np.int32] | None:
            past = rng.choice(np.array([0, 0, 1, -1, 2, -9, LOWEST, HIGHEST], np.int32), shape)
            return np.asarray(past) if with_base else None

        for levels, row_skip, search in itertools.product(tensors(dependent), flags, flags):
            past = base(levels.shape)
            data = encode_levels(
                levels, row_skip=row_skip, dependent=dependent, search_init=search, base=past
            )
            samples.append(Sample(data, payload_reader(levels.shape, dependent, past)))
        strangers += [payload_reader(shape, dependent, base(shape)) for shape in shapes]
        if not with_base:
            giants = ((1 << 27,), (1 << 25, 4))
            strangers += [payload_reader(shape, dependent, None) for shape in giants]
    outcomes = attack("payloads", samples, 4500, strangers)
    assert outcomes["refused"] > 3500
    assert outcomes["read"] > 50


def stream_reader(most: int, **options: Any) -> Reader:
    def read(data: bytes) -> None:
        model = read_model(data, **options)
        assert sum(room(tensor.levels.shape) for tensor in model.tensors.values()) <= most
        for tensor in model.tensors.values():
            check(tensor.levels, tensor.levels.shape)
            assert np.isfinite(tensor.values()).all()
        if "shapes" in options:
            found = {name: tensor.levels.shape for name, tensor in model.tensors.items()}
            assert found == options["shapes"]

    return Reader(read, STREAM_BYTES * most)


def knowing(shapes: dict[str, tuple[int, ...]], **options: Any) -> Reader:
    return stream_reader(sum(map(room, shapes.values())), shapes=shapes, **options)


def damaged(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Damage anything, or the body of a unit whose length is right then, or the order of units."""
    try:
        parts = list(units(memoryview(data)))
    except BitstreamError:
        parts = []
    kind = rng.randrange(5)
    if kind == 0 or len(parts) < 4:
        return mutate(rng, data, other)
    at = rng.randrange(3, len(parts)) if rng.random() < 0.8 else rng.randrange(len(parts))
    which, body = parts[at]
    if kind == 1:
        parts.insert(rng.randrange(len(parts)), parts.pop(at))
        parts = parts[: rng.randrange(1, 2 * len(parts))]
    elif kind == 2:
        parts[at] = which, memoryview(mutate(rng, bytes(body), other))
    elif which == TENSOR:
        parts[at] = which, memoryview(_forged(rng, body, kind == 3))
    return b"".join(unit(which, bytes(body)) for which, body in parts)


def _forged(rng: random.Random, body: memoryview, whole: bool) -> bytes:
    """Return a unit of a tensor with a damaged payload or with another header."""
    for differential in (True, False):
        try:
            header, payload = get_tensor(body, differential)
        except BitstreamError:
            continue
        if whole:
            return bytes(body[: -len(payload) or None]) + mutate(rng, bytes(payload), b"")
        sides = [rng.choice([0, 1, 2, 30, *LIES]) & (1 << 40) - 1 for _ in range(rng.randrange(5))]
        sides += rng.choice([[], [], [1] * 30, [1] * 100])
        lies: dict[str, Any] = {
            "name": rng.choice(["w1", "nobody"]),
            "shape": rng.choice([tuple(sides), header.shape[::-1]]),
            "node": Node(0, rng.randrange(99), 1),
            "temporal": rng.random() < 0.5,
            "dependent": rng.random() < 0.5,
            "flags": rng.choice([1, 2, 256]),
        }
        new = replace(header, **{key: lie for key, lie in lies.items() if rng.random() < 0.3})
        return bytes(put_tensor(new, differential)) + payload
    return bytes(body)


def test_streams() -> None:
    rng = np.random.default_rng(23)
    samples = []
    flags = (False, True)
    for dependent, differential in itertools.product(flags, flags):
        model = {f"w{number}": levels for number, levels in enumerate(tensors(dependent))}
        model["é.bias"] = np.zeros((5, 0), np.int32)
        shapes = {name: levels.shape for name, levels in model.items()}
        bases = {name: rng.integers(-2, 3, model[name].shape) for name in ("w0", "w2")}
        known: dict[str, Any] = {"bases": bases} if differential else {}
        options = {"dependent": dependent, "differential": differential, **known}
        for row_skip, search in itertools.product(flags, flags):
            data = write_model(model, -20, row_skip=row_skip, search_init=search, **options)
            samples += [
                Sample(data, knowing(shapes, **known)),
                Sample(data, stream_reader(2000, max_elements=2000, **known)),
                Sample(data, stream_reader(MAX_ELEMENTS, **known)),
            ]
    giants = {"w0": (24_000, 30), "w1": (4, 3, 3, 3), "w2": (200, 1 << 12), "v": (1 << 20,)}
    strangers = [knowing(giants), knowing(shapes), knowing({})]
    outcomes = attack("streams", samples, 4000, strangers, damaged)
    assert outcomes["refused"] > 2500
    assert outcomes["read"] > 50
