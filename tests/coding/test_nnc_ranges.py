"""NNC payloads and streams give back every integer: extremes, nothing, one, zeros, a huge row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedcomp.coding.nnc import PayloadReader, PayloadWriter, decode_levels, encode_levels
from fedcomp.coding.nnc_stream import read_model, write_model
from fedcomp.coding.nnc_tables import TRELLIS

Levels = NDArray[np.int32]

LOWEST, HIGHEST = -(2**31), 2**31 - 1
EDGES = [LOWEST, LOWEST + 1, -(2**30), -12, -11, -1, 1, 11, 12, 2**30, HIGHEST - 1, HIGHEST]
SEARCHES = (False, True, "best")


def spelled(indices: list[int]) -> list[int]:
    """Return levels 2k − sgn(k)·(state & 1) of the 8-state quantiser, k nearer to 0 if need be."""
    levels, state = [], 0
    for k in indices:
        sign = (k > 0) - (k < 0)
        level = 2 * k - sign * (state & 1)
        if not LOWEST <= level <= HIGHEST:
            level -= 2 * sign
        levels.append(level)
        state = TRELLIS[state][(abs(level) + (state & 1)) // 2 & 1]
    return levels


@st.composite
def arrays(draw: st.DrawFn, dependent: bool, shape: tuple[int, ...] | None = None) -> Levels:
    if shape is None:
        sides = st.lists(st.integers(0, 4), max_size=4).map(tuple)
        shape = draw(sides | st.tuples(st.just(1), st.integers(1, 150)))
    width = draw(st.integers(0, 31))
    small = st.integers(-(1 << width), (1 << width) - 1)
    element = draw(st.sampled_from([st.just(0), small, st.sampled_from(EDGES), small | st.just(0)]))
    size = math.prod(shape)
    values = draw(st.lists(element, min_size=size, max_size=size))
    if dependent:
        values = spelled([int(value / 2) for value in values])
    levels = np.array(values, np.int32).reshape(shape)
    if levels.ndim > 1 and draw(st.booleans()) and not dependent:
        levels[::2] = 0
    return levels


@settings(max_examples=300, deadline=None)
@given(st.data(), st.booleans(), st.booleans(), st.sampled_from(SEARCHES))
def test_payloads(data: st.DataObject, dependent: bool, row_skip: bool, search: Any) -> None:
    levels = data.draw(arrays(dependent))
    base = data.draw(st.none() | arrays(False, levels.shape))
    flags = data.draw(st.sampled_from([1, 2, 11, 256]))
    options: dict[str, Any] = {"dependent": dependent, "base": base}
    payload = encode_levels(levels, row_skip=row_skip, search_init=search, **options)
    decoded = decode_levels(payload, levels.shape, **options)
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, levels, strict=True)
    writer = PayloadWriter(flags)
    writer.put_levels(levels, row_skip=row_skip, search_init=search, **options)
    reader = PayloadReader(writer.finish(), flags)
    np.testing.assert_array_equal(reader.get_levels(levels.shape, **options), levels, strict=True)
    reader.finish()


@settings(max_examples=150, deadline=None)
@given(st.data(), st.booleans(), st.booleans(), st.sampled_from(SEARCHES))
def test_streams(data: st.DataObject, row_skip: bool, differential: bool, search: Any) -> None:
    names = data.draw(st.lists(st.text("wé.", max_size=3), max_size=3, unique=True))
    dependent = {name for name in names if data.draw(st.booleans())}
    model = {name: data.draw(arrays(name in dependent)) for name in names}
    bases = {
        name: data.draw(arrays(False, model[name].shape))
        for name in names
        if differential and data.draw(st.booleans())
    }
    written = write_model(
        *(model, -20),
        dependent=dependent,
        row_skip=row_skip,
        search_init=search,
        differential=differential,
        bases=bases,
    )
    shapes = {name: levels.shape for name, levels in model.items()}
    decoded = read_model(written, shapes=shapes, bases=bases).tensors
    assert list(decoded) == names
    for name, levels in model.items():
        np.testing.assert_array_equal(decoded[name].levels, levels, strict=True)
        assert decoded[name].dependent == (name in dependent and decoded[name].node is not None)


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("with_base", [False, True])
@pytest.mark.parametrize("density", [0.0, 0.01, 1.0])
def test_one_huge_row(dependent: bool, with_base: bool, density: float) -> None:
    rng = np.random.default_rng(9)
    values = np.rint(rng.laplace(0, 9, 200_000)) * (rng.random(200_000) < density)
    values[[0, -1]] = LOWEST // 2, HIGHEST // 2
    levels = np.array(spelled(values.astype(int).tolist()) if dependent else values, np.int32)
    base = rng.choice(np.array([0, 0, 0, 1, -5, HIGHEST], np.int32), levels.shape)
    for shape in ((1, -1), (-1,), (1, 1, -1, 1)):
        row = levels.reshape(shape)
        past = base.reshape(shape) if with_base else None
        payload = encode_levels(
            row, row_skip=True, dependent=dependent, search_init=True, base=past
        )
        decoded = decode_levels(payload, row.shape, dependent=dependent, base=past)
        np.testing.assert_array_equal(decoded, row, strict=True)
