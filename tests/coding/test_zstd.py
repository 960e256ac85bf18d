from __future__ import annotations

import numpy as np
import pytest
import zstandard

from fedcomp.coding import zstd
from fedcomp.errors import BitstreamError, CodecError


def test_bytes_are_shuffled_where_that_is_smaller() -> None:
    rng = np.random.default_rng(0)
    slow = np.cumsum(rng.integers(-50, 50, 20_000)) + 10_000
    data = zstd.encode(slow)
    assert data[0] & zstd.SHUFFLED
    narrow = slow.astype(np.int16 if data[0] & 7 == 2 else np.int32)
    assert len(data) < len(zstandard.compress(narrow.tobytes(), 9))
    assert not zstd.encode(np.tile(rng.integers(0, 60_000, 50), 400))[0] & zstd.SHUFFLED
    assert not zstd.encode(np.arange(100))[0] & zstd.SHUFFLED


@pytest.mark.parametrize("level", [0, 23, -1])
def test_levels_that_do_not_exist(level: int) -> None:
    with pytest.raises(CodecError, match="1 to 22"):
        zstd.encode(np.arange(10), level=level)


@pytest.mark.parametrize("level", [1, 19, 22])
def test_levels_that_exist(level: int) -> None:
    levels = np.arange(1000) % 7
    np.testing.assert_array_equal(zstd.decode(zstd.encode(levels, level=level), 1000), levels)


def test_lies() -> None:
    data = zstd.encode(np.arange(100))
    for head in (5, 7, 13, 16, 255):
        with pytest.raises(BitstreamError, match="type"):
            zstd.decode(bytes([head]) + data[1:], 100)
    with pytest.raises(BitstreamError, match="announces 100 bytes"):
        zstd.decode(data, 99)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    with pytest.raises(BitstreamError, match="announces -1 bytes"):
        zstd.decode(b"\0" + unsized, 100)
    giant = b"\0" + bytes.fromhex("28b52ffde0") + (1 << 62).to_bytes(8, "little") + bytes(9)
    with pytest.raises(BitstreamError, match="announces 4611686018427387904 bytes"):
        zstd.decode(giant, 100)
    with pytest.raises(BitstreamError, match="no zstd frame"):
        zstd.decode(data + data[1:], 100)
