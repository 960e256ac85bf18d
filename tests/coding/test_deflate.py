from __future__ import annotations

import zlib

import numpy as np
import pytest

from fedcomp.coding import deflate
from fedcomp.errors import BitstreamError, CodecError


@pytest.mark.parametrize(
    ("levels", "name"),
    [
        ([-128, 127], "i1"),
        ([0, 255], "u1"),
        ([-1, 128], "<i2"),
        ([0, 65535], "<u2"),
        ([-1, 32768], "<i4"),
    ],
)
def test_the_type_is_the_narrowest(levels: list[int], name: str) -> None:
    data = deflate.encode(np.array(levels))
    assert deflate.TYPES[data[0]] == name
    assert zlib.decompress(data[1:], -15) == np.array(levels, dtype=name).tobytes()


def test_size_is_that_of_zlib() -> None:
    levels = np.round(np.random.default_rng(0).laplace(0, 4, 50_000)).astype(np.int32)
    expected = len(zlib.compress(levels.astype(np.int8).tobytes(), 9)) - 6
    assert len(deflate.encode(levels)) == 1 + expected
    assert len(deflate.encode(levels, level=1)) > expected


@pytest.mark.parametrize("level", [-2, -1, 10, 77])
def test_levels_that_do_not_exist(level: int) -> None:
    with pytest.raises(CodecError, match=f"deflate level {level}; give 0 to 9"):
        deflate.encode(np.arange(10), level=level)


@pytest.mark.parametrize("level", deflate.LEVELS)
def test_levels_that_exist(level: int) -> None:
    levels = np.arange(1000) % 7
    np.testing.assert_array_equal(deflate.decode(deflate.encode(levels, level=level), 1000), levels)


def test_lies() -> None:
    data = deflate.encode(np.arange(100))
    with pytest.raises(BitstreamError, match="type 5"):
        deflate.decode(b"\x05" + data[1:], 100)
    for count in (99, 101):
        with pytest.raises(BitstreamError, match=f"exactly {count} bytes"):
            deflate.decode(data, count)
    with pytest.raises(BitstreamError, match="no deflate stream"):
        deflate.decode(b"\x00\xff\xff", 100)
