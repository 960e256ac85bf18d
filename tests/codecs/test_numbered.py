from __future__ import annotations

import numpy as np
import pytest

from fedcomp.codecs.levels import LevelCodec, Levels
from fedcomp.codecs.numbered import Numbered
from fedcomp.codecs.qsgd import Qsgd
from fedcomp.coding.reader import varint
from fedcomp.errors import BitstreamError
from tests.common import context_for

TENSORS = {
    "w": np.array([[3.0, -4.0]], np.float32),
    "b": np.ones(2, np.float32),
    "e": np.zeros((0, 2), np.float32),
    "n": np.array([[1, 2]]),
}
CONTEXT = context_for(TENSORS)
CODEC = Qsgd(coder="fixed")
FRAME = LevelCodec.pack(CODEC, {"b": Levels.of(np.ones(2, np.int32), 1.0)}, CONTEXT)
NORM = np.float32(5).tobytes()
SECTION = CODEC.coding(CONTEXT).write({"w": np.array([[4, -6]])})


def payload(frame: bytes, presence: int) -> bytes:
    return varint(len(frame)) + frame + b"\1" + bytes([presence]) + NORM + SECTION


def test_the_layout() -> None:
    symbols = CODEC.unpack(payload(FRAME, 0b1000_0000), CONTEXT)
    assert list(symbols) == ["w", "b"]
    assert isinstance(symbols["w"], Numbered)
    assert symbols["w"].numbers.tolist() == [5]


@pytest.mark.parametrize("presence", [0b0100_0000, 0b0010_0000, 0b0001_0000])
def test_only_weights_have_floats_of_their_own(presence: int) -> None:
    with pytest.raises(BitstreamError, match="is no weight, has no element"):
        CODEC.unpack(payload(b"\1\0\0", presence), CONTEXT)


def test_a_weight_comes_once() -> None:
    twice = LevelCodec.pack(CODEC, {"w": Levels.zeros((1, 2))}, CONTEXT)
    with pytest.raises(BitstreamError, match=r"'w' is no weight, .* or is here twice"):
        CODEC.unpack(payload(twice, 0b1000_0000), CONTEXT)


def test_a_weight_with_a_mere_step_is_refused() -> None:
    frame = LevelCodec.pack(CODEC, {"w": Levels.of(np.ones((1, 2), np.int32), 0.5)}, CONTEXT)
    with pytest.raises(BitstreamError, match="with a step and without floats"):
        CODEC.unpack(varint(len(frame)) + frame + b"\1\0", CONTEXT)
