from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.coding import bits
from fedcomp.errors import BitstreamError, CodecError


@settings(max_examples=200, deadline=None)
@given(width=st.integers(0, 33), data=st.data())
def test_packing_is_exact(width: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, (1 << width) - 1), max_size=70))
    packed = bits.pack_bits(np.array(values, dtype=np.uint64), width)
    expected = sum(value << (width * i) for i, value in enumerate(values))
    assert packed == expected.to_bytes((len(values) * width + 7) // 8, "little")
    unpacked = bits.unpack_bits(packed, width, len(values))
    assert unpacked.tolist() == values
    assert unpacked.dtype.itemsize == next(n for n in (1, 2, 4, 8) if 8 * n >= width)


@pytest.mark.parametrize(
    ("values", "width"),
    [
        (np.array([4]), 2),
        (np.array([1]), 0),
        (np.array([-1]), 8),
        (np.array([1.0]), 8),
        (np.array([1]), 34),
        (np.array([1]), -1),
        (np.array([2**64 - 1], dtype=np.uint64), 33),
    ],
    ids=str,
)
def test_what_cannot_be_packed(values: np.ndarray, width: int) -> None:
    with pytest.raises(CodecError):
        bits.pack_bits(values, width)


def test_big_endian_values_are_packed_by_value() -> None:
    values = np.array([1, 2, 300])
    assert bits.pack_bits(values.astype(">u2"), 9) == bits.pack_bits(values, 9)


def test_wrong_packed_bytes() -> None:
    with pytest.raises(BitstreamError, match="take 2 bytes, not 3"):
        bits.unpack_bits(bytes(3), 2, 5)
    with pytest.raises(BitstreamError, match="not zero"):
        bits.unpack_bits(bytes([0, 4]), 2, 5)
    with pytest.raises(CodecError, match="width"):
        bits.unpack_bits(bytes(3), 34, 5)


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
    assert len(bits.encode(np.array(levels))) == size


def test_levels_beyond_int32_are_refused() -> None:
    data = bytearray(bits.encode(np.array([2**31 - 2, 2**31 - 1])))
    data[-1] = 3
    data[0] += 1
    with pytest.raises(BitstreamError, match="beyond int32"):
        bits.decode(bytes(data), 2)
    with pytest.raises(BitstreamError, match="33 bits"):
        bits.decode(bytes([33]) + bytes(9), 2)
