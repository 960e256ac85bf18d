from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedcomp.codecs.base import Context
from fedcomp.codecs.nnc import Nnc
from fedcomp.codecs.qsgd import Qsgd
from fedcomp.codecs.schedule import Schedule
from fedcomp.codecs.scheduled import Scheduled
from fedcomp.codecs.topk import TopK
from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import BitstreamError, CodecError
from tests.common import context_for

TENSORS = {"w": np.random.default_rng(4).normal(size=(40, 50)).astype(np.float32)}
BITS = Scheduled.of(Uniform(), Schedule("bits", 8, 2, "linear", rounds=4))
ADAPTIVE = Scheduled.of(Qsgd(coder="fixed"), Schedule("s", 1, 7, "adaptive", every=2))


def context(number: int = 1, plateaus: int = 0) -> Context:
    return replace(context_for(TENSORS, number), plateaus=plateaus)


@pytest.mark.parametrize(("number", "bits"), [(1, 8), (2, 6), (3, 4), (4, 2), (9, 2)])
def test_the_round_decides_and_costs_nothing(number: int, bits: int) -> None:
    here = context(number)
    data = BITS.encode(TENSORS, here)
    assert data == Uniform(bits=bits).encode(TENSORS, here)
    assert np.array_equal(BITS.decode(data, here)["w"], Uniform(bits=bits).decode(data, here)["w"])


@pytest.mark.parametrize(("plateaus", "s"), [(0, 1), (1, 2), (2, 4), (3, 7), (8, 7)])
def test_the_packet_says_what_plateaus_made_of_the_value(plateaus: int, s: int) -> None:
    data = ADAPTIVE.encode(TENSORS, context(3, plateaus))
    assert data == bytes([min(plateaus, 3)]) + Qsgd(s=s, coder="fixed").encode(TENSORS, context(3))
    receiver = context(3)  # knows of no plateau
    expected = Qsgd(s=s, coder="fixed").decode(data[1:], receiver)["w"]
    assert np.array_equal(ADAPTIVE.decode(data, receiver)["w"], expected)
    assert ADAPTIVE.pack(ADAPTIVE.unpack(data, receiver), receiver) == data


def test_values_of_other_rounds_are_not_mixed() -> None:
    both = {**TENSORS, "v": TENSORS["w"]}
    one, two = context_for(both), replace(context_for(both), plateaus=1)
    symbols = ADAPTIVE.quantise({"w": both["w"]}, one) | ADAPTIVE.quantise({"v": both["v"]}, two)
    with pytest.raises(CodecError, match=r"after \[0, 1\] changes of s are mixed"):
        ADAPTIVE.pack(symbols, one)


def test_an_impossible_count_is_refused() -> None:
    data = ADAPTIVE.encode(TENSORS, context())
    with pytest.raises(BitstreamError, match="changed 4 times, it can 3 times"):
        ADAPTIVE.decode(b"\4" + data[1:], context())


def test_symbols_of_the_last_packet_reach_the_codec() -> None:
    plain = Nnc(qp=None, step=0.1, temporal=True)
    codec = Scheduled.of(plain, Schedule("step", 0.1, 0.2, "adaptive", every=1))
    assert codec.uses_previous
    previous = codec.quantise(TENSORS, context(1))
    then = replace(context(2), previous=previous)
    inner = replace(then, previous={name: symbol.symbol for name, symbol in previous.items()})
    data = codec.encode(TENSORS, then)
    assert data[1:] == plain.encode(TENSORS, inner)
    assert len(data) < len(codec.encode(TENSORS, context(2)))
    assert np.array_equal(codec.decode(data, then)["w"], plain.decode(data[1:], inner)["w"])


def test_whole_numbers_stay_whole_and_the_run_gives_the_end() -> None:
    codec = Scheduled.of(TopK(), Schedule("bits", 8, 3, "linear"))
    over = codec.over(11)
    assert isinstance(over, Scheduled)
    assert over.schedule.rounds == 11
    assert [over.with_value(over.schedule.at_round(t)).bits for t in (1, 2, 4, 11)] == [8, 8, 6, 3]  # type: ignore[attr-defined]
    assert over.over(5) == over
    assert codec.name == "topk"
    assert BITS.over(99) == BITS
    assert ADAPTIVE.over(99) == ADAPTIVE


def test_what_a_codec_says_of_itself() -> None:
    assert BITS.contracts
    assert BITS.patience is None
    assert ADAPTIVE.patience == 2
    assert not ADAPTIVE.contracts
    fine = Scheduled.of(Qsgd(bucket=16), Schedule("s", 2, 16, "linear", rounds=3))
    assert not fine.contracts
    assert Scheduled.of(Qsgd(bucket=16), Schedule("s", 4, 16, "linear", rounds=3)).contracts
    assert len({c.id for c in (BITS, ADAPTIVE, fine, Qsgd(bucket=16), Uniform())}) == 5
