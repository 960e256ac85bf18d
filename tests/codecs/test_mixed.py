from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedcomp.building import build_codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.levels import Levels
from fedcomp.codecs.mixed import Mixed, Part
from fedcomp.codecs.nnc import DeepCabac
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.qsgd import Qsgd
from fedcomp.codecs.schedule import Schedule
from fedcomp.codecs.scheduled import Scheduled
from fedcomp.codecs.stc import Stc
from fedcomp.codecs.topk import TopK
from fedcomp.codecs.uniform import Uniform
from fedcomp.coding.reader import varint
from fedcomp.config import compose_config
from fedcomp.errors import BitstreamError, ConfigError
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Kind, Manifest, TensorSpec
from tests.common import context_for

RNG = np.random.default_rng(9)
TENSORS = {
    "body.0.weight": RNG.normal(size=(8, 4, 3, 3)).astype(np.float32),
    "body.0.bias": RNG.normal(size=8).astype(np.float32),
    "head.weight": RNG.normal(size=(10, 32)).astype(np.float32),
    "head.bias": RNG.normal(size=10).astype(np.float32),
}
CONTEXT = context_for(TENSORS)


def test_convolutions_ternary_and_the_classifier_at_eight_bits() -> None:
    codec = Mixed("delta", (Part("conv", Stc()), Part("^head", Uniform(bits=8))), Cast())
    out = codec.decode(codec.encode(TENSORS, CONTEXT), CONTEXT)
    for name, inner in (
        ("body.0.weight", Stc()),
        ("body.0.bias", Cast()),
        ("head.weight", Uniform(bits=8)),
        ("head.bias", Uniform(bits=8)),
    ):
        alone = inner.decode(inner.encode({name: TENSORS[name]}, CONTEXT), CONTEXT)
        assert np.array_equal(out[name], alone[name])
    assert len(np.unique(out["body.0.weight"])) == 3


def test_payloads_follow_one_another() -> None:
    codec = Mixed("delta", (Part("conv", Stc()),), Uniform())
    rest = {name: value for name, value in TENSORS.items() if name != "body.0.weight"}
    first = Stc().encode({"body.0.weight": TENSORS["body.0.weight"]}, CONTEXT)
    second = Uniform().encode(rest, CONTEXT)
    data = codec.encode(TENSORS, CONTEXT)
    assert data == varint(len(first)) + first + varint(len(second)) + second


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("conv", {"c"}),
        ("dense", {"d"}),
        ("weight", {"c", "d"}),
        ("bias", {"d.bias"}),
        ("counter", {"n"}),
        (r"^d", {"d", "d.bias"}),
    ],
)
def test_patterns(pattern: str, expected: set[str]) -> None:
    specs = (
        TensorSpec("c", (2, 2, 3, 3), "float32", Kind.WEIGHT),
        TensorSpec("d", (2, 2), "float32", Kind.WEIGHT),
        TensorSpec("d.bias", (2,), "float32", Kind.BIAS),
        TensorSpec("n", (), "int64", Kind.COUNTER),
    )
    part = Part(pattern, Uniform())
    assert {spec.name for spec in specs if part.takes(spec)} == expected
    assert {spec.name for spec in Manifest(specs).specs if part.takes(spec)} == expected


def test_the_first_part_that_meets_a_tensor_has_it() -> None:
    codec = Mixed("delta", (Part("head", Uniform(bits=4)), Part("weight", Stc())), Cast())
    symbols = codec.quantise(TENSORS, CONTEXT)
    assert isinstance(symbols["head.weight"], Levels)
    assert np.abs(symbols["head.weight"].levels).max() == 7
    assert np.abs(symbols["body.0.weight"].levels).max() == 1


def test_a_tensor_from_another_codec_is_refused() -> None:
    codec = Mixed("delta", (Part("conv", Stc()),), Uniform())
    wrong = Stc().encode({"head.weight": TENSORS["head.weight"]}, CONTEXT)
    rest = Uniform().encode({}, CONTEXT)
    data = varint(len(wrong)) + wrong + varint(len(rest)) + rest
    with pytest.raises(BitstreamError, match=r"'head\.weight' comes from stc"):
        codec.unpack(data, CONTEXT)


def test_importance_goes_to_those_that_look_at_it() -> None:
    inner = DeepCabac(step=0.05, rate_weight=0.5)
    codec = Mixed("delta", (Part("dense", inner),), Uniform())
    assert codec.uses_importance
    importance = {n: RNG.uniform(0.01, 30, v.shape) for n, v in TENSORS.items()}
    found = codec.quantise_weighted(TENSORS, importance, CONTEXT)
    alone = inner.quantise_weighted(
        {"head.weight": TENSORS["head.weight"]},
        {"head.weight": importance["head.weight"]},
        CONTEXT,
    )
    assert list(found) == list(TENSORS)
    assert np.array_equal(found["head.weight"].levels, alone["head.weight"].levels)
    plain = codec.quantise(TENSORS, CONTEXT)
    assert not np.array_equal(found["head.weight"].levels, plain["head.weight"].levels)
    assert np.array_equal(found["body.0.weight"].levels, plain["body.0.weight"].levels)


def test_schedules_within_follow_the_run() -> None:
    inner = Scheduled.of(TopK(), Schedule("density", 0.5, 0.1, "linear"))
    codec = Mixed("delta", (Part("conv", inner),), inner).over(3)
    last = replace(CONTEXT, round=3)
    sent = codec.decode(codec.encode(TENSORS, last), last)
    assert np.count_nonzero(sent["head.weight"]) == 32
    assert np.count_nonzero(sent["body.0.weight"]) == 29


def test_what_it_says_of_itself_is_what_its_codecs_say() -> None:
    adaptive = Scheduled.of(Qsgd(), Schedule("s", 1, 4, "adaptive", every=3))
    codec = Mixed("delta", (Part("conv", adaptive),), Uniform())
    assert (codec.patience, codec.contracts, codec.uses_previous) == (3, False, False)
    assert Mixed("delta", (), Uniform()).contracts
    other = replace(adaptive, schedule=replace(adaptive.schedule, every=4))
    with pytest.raises(ValueError, match=r"need the same every, these have \[3, 4\]"):
        Mixed("delta", (Part("conv", adaptive),), other)
    with pytest.raises(ValueError, match="none in it has another one, absolute"):
        Mixed("delta", (), NoCompression())
    assert Mixed("delta", (), Uniform()).id != Mixed("delta", (), Cast()).id


def test_settings_give_every_codec_the_mode() -> None:
    values = {
        "name": "mixed",
        "mode": "absolute",
        "parts": [
            {"tensors": "conv", "codec": {"name": "uniform", "bits": 4}},
            {
                "tensors": "dense",
                "codec": {
                    "name": "qsgd",
                    "schedule": {"key": "s", "shape": "linear", "start": 1, "end": 3},
                },
            },
        ],
        "otherwise": "none",
    }
    codec = build_codec(values, "uplink")
    assert isinstance(codec, Mixed)
    first, second = codec.parts
    assert first == Part("conv", Uniform(mode="absolute", bits=4))
    assert isinstance(second.codec, Scheduled)
    assert second.codec.codec == Qsgd(mode="absolute")
    assert codec.otherwise == NoCompression()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": [{"tensors": "("}]}, r"uplink.parts.0={.*: is to have the keys tensors and"),
        ({"parts": [{"tensors": "(", "codec": "cast"}]}, r"tensors=\( is no regular expression"),
        ({"parts": "conv"}, r"uplink.parts.0=conv: is to have"),
        ({"parts": [{"tensors": ["a"], "codec": "cast"}]}, r"parts.0.tensors=\["),
        ({"parts": [{"tensors": None, "codec": "cast"}]}, "parts.0.tensors=null: is to be a word"),
        ({"otherwise": {"name": "uniform", "mode": "absolute"}}, "has another one, absolute"),
        ({"otherwise": "cats"}, "uplink.otherwise.name=cats: codec 'cats' is unknown"),
        ({"otherwise": None}, "uplink.otherwise=null: is to be a codec"),
        ({"otherwise": {"name": "uniform", "bit": 3}}, "uplink.otherwise.bit=3: the key"),
        ({"other": 3}, "uplink.other=3: the key is unknown"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_codec({"name": "mixed", "parts": [], "otherwise": "uniform", **change}, "uplink")


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("linear", "uplink.schedule=linear: has keys such as"),
        ({"key": "x", "start": 2, "shape": "constant"}, "codec uniform has no such number"),
        ({"key": "coder", "start": 2, "shape": "constant"}, "codec uniform has no such number"),
        ({"key": "bits", "start": 2, "shape": "linear"}, "uplink.schedule: end is needed"),
        (
            {"key": "bits", "start": 1, "end": 40, "shape": "linear"},
            r"start=1: as bits, .*\n.*schedule.end=40: as bits",
        ),
        ({"key": "fine_step", "start": 10**400, "end": 1}, "must be finite"),
        ({"key": "bits", "start": 0, "end": 1, "shape": "doubling", "every": 1}, "more than 0"),
        ({"shape": "cosine"}, "uplink.schedule.key: a value is missing"),
        (
            {"key": "bits", "start": 2.5, "shape": "constant"},
            "start=2.5: as bits, Input should be a valid",
        ),
        ({"start": 2.5}, "uplink.schedule.key: a value is missing"),
    ],
)
def test_wrong_schedules_are_named(schedule: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_codec({"name": "uniform", "schedule": schedule}, "uplink")


def test_a_schedule_that_says_nothing_is_none() -> None:
    values = {"name": "uniform", "schedule": {"key": None, "shape": None, "start": None}}
    assert build_codec(values, "uplink") == Uniform()


def test_values_below_zero_may_be_scheduled() -> None:
    values = {"name": "nnc", "schedule": {"key": "qp", "start": -50, "end": -20}}
    codec = build_codec(values, "uplink").over(7)
    assert isinstance(codec, Scheduled)
    assert [codec.with_value(codec.schedule.at_round(t)).qp for t in (1, 4, 7)] == [-50, -35, -20]  # type: ignore[attr-defined]


def test_a_part_for_no_tensor_of_the_model_is_named() -> None:
    codec = Mixed("delta", (Part("convs", Stc()), Part("conv", Stc()), Part("body.0.w", Stc())))
    first, third = codec.misfits(CONTEXT.manifest)
    assert first.startswith("parts.0.tensors=convs: takes no tensor of the model")
    assert "choose of conv, dense, bias, weight, or a part of a name such as body" in first
    assert third.startswith("parts.2.tensors=body.0.w: takes no tensor")
    config = compose_config(["codec@uplink=mixed", "uplink.parts=[{tensors: convs, codec: stc}]"])
    with pytest.raises(ConfigError, match=r"uplink\.parts\.0\.tensors=convs: takes no tensor"):
        Setup(parse(config)).check()
