from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.coding import fixed
from fedcomp.errors import BitstreamError


@settings(max_examples=200, deadline=None)
@given(values=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=70))
def test_packing_is_exact(values: list[int]) -> None:
    data = fixed.encode(np.array(values))
    lowest = min(values)
    width = (max(values) - lowest).bit_length()
    expected = sum((value - lowest) << (width * i) for i, value in enumerate(values))
    size = (len(values) * width + 7) // 8
    assert data[len(data) - size :] == expected.to_bytes(size, "little")


def test_wrong_packed_bytes() -> None:
    with pytest.raises(BitstreamError, match="take 2 bytes, not 3"):
        fixed.decode(bytes([2, 0, 0, 0]), 5)
    with pytest.raises(BitstreamError, match="not zero"):
        fixed.decode(bytes([2, 0, 4]), 5)


@pytest.mark.parametrize(
    ("levels", "size"),
    [
        ([0, 1, 0, 1, 1, 0, 1, 1, 1], 1 + 0 + 2),
        ([-128, -127], 1 + 1 + 1),
        ([-129, -128], 1 + 2 + 1),
        ([127], 1 + 1),
        ([128], 1 + 2),
        ([32768], 1 + 4),
        ([-(2**31), 2**31 - 1], 1 + 4 + 8),
    ],
)
def test_sizes(levels: list[int], size: int) -> None:
    assert len(fixed.encode(np.array(levels))) == size


def test_levels_beyond_int32_are_refused() -> None:
    data = bytearray(fixed.encode(np.array([2**31 - 2, 2**31 - 1])))
    data[-1] = 3
    data[0] += 1
    with pytest.raises(BitstreamError, match="beyond int32"):
        fixed.decode(bytes(data), 2)
    with pytest.raises(BitstreamError, match="33 bits"):
        fixed.decode(bytes([33]) + bytes(9), 2)
