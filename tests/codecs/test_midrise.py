from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedcomp.codecs.coders import Coder, Coding
from fedcomp.codecs.midrise import MidriseCoding
from fedcomp.errors import BitstreamError
from fedcomp.tensors import Array

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=9)


@settings(deadline=None)
@given(
    hnp.arrays(np.int32, SHAPES, elements=st.integers(-4, 4)),
    st.sampled_from(get_args(Coder)),
)
def test_round_trip(levels: Array, coder: Coder) -> None:
    coding = MidriseCoding(coder)
    data = coding.encode(levels)
    assert np.array_equal(coding.decode(memoryview(data), levels.shape), levels)


def test_levels_without_zeros_have_no_gap() -> None:
    levels = np.array([-2, -1, 1, 2] * 100, np.int32)
    assert len(MidriseCoding("fixed").encode(levels)) <= 100 + 4
    levels[7] = 0
    assert len(MidriseCoding("fixed").encode(levels)) <= 50 + 100 + 4


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\2", "start with 2"),
        (b"\1\xe0", "bit map of zeros has none"),
        (b"\1\x50", "behind the last weight"),
    ],
)
def test_flags_are_canonical(head: bytes, message: str) -> None:
    data = head + Coding("fixed").encode(np.zeros(3, np.int32))
    with pytest.raises(BitstreamError, match=message):
        MidriseCoding("fixed").decode(memoryview(data), (3,))


def test_zeros_that_are_announced_are_there() -> None:
    data = b"\1" + Coding("golomb").encode(np.ones(3, np.int32))
    with pytest.raises(BitstreamError, match="announced and there are none"):
        MidriseCoding("golomb").decode(memoryview(data), (3,))
