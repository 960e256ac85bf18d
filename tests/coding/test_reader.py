from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.coding.reader import Reader, varint
from fedcomp.errors import BitstreamError


@given(st.integers(0, 2**35 - 1))
def test_numbers_come_back_from_as_few_bytes_as_possible(value: int) -> None:
    data = varint(value)
    reader = Reader(data)
    assert reader.varint() == value
    reader.end()
    assert len(data) == max(1, -(-value.bit_length() // 7))


@pytest.mark.parametrize("data", ["8000", "ff00", "808000", "ac8200", "8080808000"])
def test_numbers_of_more_bytes_than_they_need_are_refused(data: str) -> None:
    with pytest.raises(BitstreamError, match=r"ends in a byte it does not need"):
        Reader(bytes.fromhex(data)).varint()


def test_zero_is_one_byte() -> None:
    assert Reader(b"\0").varint() == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("808080808000", "takes more than 5 bytes"),
        ("80", "only 0 are left"),
        ("", "only 0 are left"),
    ],
)
def test_numbers_without_an_end_are_refused(data: str, message: str) -> None:
    with pytest.raises(BitstreamError, match=message):
        Reader(bytes.fromhex(data)).varint()
