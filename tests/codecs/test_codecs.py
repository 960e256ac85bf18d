from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch

from fedcomp.codecs import CODECS, Codec
from fedcomp.codecs.cast import Cast
from fedcomp.codecs.clustered import Clustered
from fedcomp.codecs.coders import Coder
from fedcomp.codecs.cossgd import CosSgd
from fedcomp.codecs.ecq import Ecq
from fedcomp.codecs.eden import Eden
from fedcomp.codecs.fedzip import FedZip
from fedcomp.codecs.fsfl import Fsfl
from fedcomp.codecs.kmeans import KMeans
from fedcomp.codecs.linear import Linear
from fedcomp.codecs.lossless import Lossless
from fedcomp.codecs.masked import MaskedCodec
from fedcomp.codecs.mixed import Mixed, Part
from fedcomp.codecs.nnc import DeepCabac, Nnc
from fedcomp.codecs.none import NoCompression
from fedcomp.codecs.powersgd import PowerSgd
from fedcomp.codecs.qsgd import Qsgd
from fedcomp.codecs.randk import RandK
from fedcomp.codecs.schedule import Schedule
from fedcomp.codecs.scheduled import Scheduled
from fedcomp.codecs.sign import Sign
from fedcomp.codecs.signsgd import SignSgd
from fedcomp.codecs.stc import Stc
from fedcomp.codecs.subspace import Subspace
from fedcomp.codecs.terngrad import TernGrad
from fedcomp.codecs.threshold import Threshold
from fedcomp.codecs.topk import TopK
from fedcomp.codecs.uniform import Uniform
from fedcomp.errors import BitstreamError, CodecError, UnknownNameError
from tests.common import (
    awkward_tensors,
    check_codec,
    check_golden,
    check_two_processes,
    context_for,
    equal,
)
from tests.golden_files import CODECS as GOLDEN_CODECS

ALL = [
    NoCompression(),
    Cast(),
    Cast(mode="absolute"),
    Cast(dtype="bf16"),
    Uniform(),
    Uniform(mode="absolute", bits=4, rounding="stochastic", share=0.9),
    *(Uniform(bits=None, step=0.01, coder=coder) for coder in get_args(Coder)),
    TopK(density=0.1),
    TopK(density=0.3, scope="model", bits=4, coder="golomb"),
    Nnc(),
    Nnc(qp=None, bits=5, quantiser="dependent"),
    Nnc(mode="absolute", quantiser="rate_distortion"),
    Nnc(qp=None, step=1e-3, quantiser="weighted", temporal=True),
    DeepCabac(),
    Fsfl(),
    Fsfl(sparsity="target", rate=0.8, quantiser="dependent"),
    Fsfl(sparsity="fixed", gain=0.0, temporal=True),
    Stc(density=0.2),
    Stc(coder="cabac"),
    Subspace(),
    Subspace(dimensions=60, whole=10, coder="cabac"),
    Subspace(dimensions=60, whole=10, quantiser="uniform", coder="golomb"),
    Subspace(dimensions=90, whole=0, quantiser="uniform", width=0.1, coder="cabac"),
    Qsgd(),
    Qsgd(mode="absolute", s=1, bucket=None, coder="golomb"),
    Qsgd(s=100, bucket=5, coder="huffman"),
    TernGrad(),
    TernGrad(clip=None, coder="fixed"),
    Sign(),
    Sign(coder="cabac"),
    Clustered(),
    Clustered(others="fp32", predict=False, coder="huffman"),
    Clustered(others="bf16", coder="deflate"),
    Ecq(),
    Ecq(mode="delta", bits=8, gamma=0),
    Ecq(bits=2, share=0.8, gamma=0.5, bound="max", predict=False),
    CosSgd(),
    CosSgd(mode="absolute", bits=4, rounding="stochastic", coder="deflate"),
    CosSgd(bits=1, density=0.5, coder="fixed"),
    Linear(),
    Linear(mode="absolute", bits=8, clip=0.1, rounding="nearest", coder="huffman"),
    Linear(bits=1, rotation="hadamard", coder="fixed"),
    MaskedCodec(),
    MaskedCodec("absolute", NoCompression(), "golomb"),
    MaskedCodec("absolute", Uniform(mode="absolute"), "fixed"),
    MaskedCodec("delta", Uniform(bits=4), "deflate"),
    Mixed("delta", (Part("conv", Stc(density=0.2)), Part("weight", Qsgd())), Uniform()),
    Mixed("absolute", (Part("double|scalar", Cast(mode="absolute")),), NoCompression()),
    Scheduled.of(Uniform(), Schedule("bits", 8, 2, "linear", rounds=9)),
    Scheduled.of(Qsgd(coder="golomb"), Schedule("s", 1, 7, "adaptive", every=2)),
    SignSgd(step=0.5, coder="fixed"),
    PowerSgd(rank=1, bits=4),
    SignSgd(),
    RandK(density=0.3),
    RandK(density=0.7),
    RandK(density=0.05, scope="model", coder="golomb"),
    RandK(density=0.6, scope="model", unbiased=True),
    RandK(density=0.5, unbiased=True, bits=3, coder="fixed"),
    KMeans(),
    KMeans(mode="absolute", clusters=3, coder="huffman"),
    KMeans(clusters=2, keep_zero=True, coder="fixed"),
    FedZip(),
    FedZip(density=0.6, clusters=5, coder="golomb"),
    PowerSgd(),
    PowerSgd(rank=1, warm_start=False, bits=24),
    PowerSgd(rank=64, bits=4, coder="golomb"),
    Eden(),
    Eden(mode="absolute", bits=4, unbiased=False, coder="cabac"),
    Eden(bits=8, coder="huffman"),
    Lossless(),
    Lossless(level=19, xor=False),
    Threshold(),
    Threshold(tau=0.06, relative=None, bits=5, coder="huffman"),
]


@pytest.mark.parametrize("codec", ALL, ids=str)
def test_contract(codec: Codec) -> None:
    check_codec(codec)


def test_other_processes_write_the_same_bytes() -> None:
    check_two_processes(*ALL)


@pytest.mark.parametrize("name", GOLDEN_CODECS)
def test_golden(name: str) -> None:
    check_golden(GOLDEN_CODECS[name], name)


def test_every_registered_codec_is_tested() -> None:
    assert {codec.name for codec in ALL} == set(CODECS.names())


def test_every_codec_has_its_line_of_the_table() -> None:
    for name in CODECS.names():
        cls = CODECS.get(name)
        assert "about" in vars(cls), f"{name} has that of another one"
        assert all(cls.about), name


def test_who_contracts_never_loses_more_than_everything() -> None:
    rng = np.random.default_rng(5)
    spikes = rng.uniform(5e-4, 2e-3, size=(40, 50)).astype(np.float32)
    spikes[0, 0] = 1
    heavy = np.asarray(rng.standard_cauchy(size=(40, 50)), np.float32)
    unsafe = {codec.name for codec in ALL if not codec.contracts}
    assert unsafe >= {"powersgd", "qsgd", "randk", "signsgd", "terngrad", "uniform"}
    for codec in (codec for codec in ALL if codec.contracts and codec.mode == "delta"):
        for values in (spikes, heavy, spikes * np.float32(0.01)):
            tensors = {"w": values}
            errors = []
            for number in range(10):
                context = replace(context_for(tensors, number), reference=None)
                out = codec.decode(codec.encode(tensors, context), context)["w"]
                errors.append(np.square(out.astype(np.float64) - values).sum())
            whole = np.square(values, dtype=np.float64).sum()
            assert np.mean(errors) <= whole * (1 + 1e-6), codec


def test_none_is_exact_and_as_long_as_its_values() -> None:
    tensors = awkward_tensors()
    context = context_for(tensors)
    data = NoCompression().encode(tensors, context)
    assert equal(NoCompression().decode(data, context), tensors)
    assert len(data) == 1 + sum(value.nbytes for value in tensors.values())


def test_bf16_rounds_as_torch_does() -> None:
    values = np.random.default_rng(1).normal(size=10_000).astype(np.float32)
    values[:4] = [0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8]  # the last two are ties
    codec = Cast(mode="absolute", dtype="bf16")
    decoded = codec.decode(
        codec.encode({"x": values}, context_for({"x": values})), context_for({"x": values})
    )["x"]
    expected = torch.from_numpy(values).to(torch.bfloat16).to(torch.float32).numpy()
    assert decoded.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("dtype", "bits"), [("fp16", 11), ("bf16", 8)])
def test_cast_error_is_half_a_unit_in_the_last_place(dtype: str, bits: int) -> None:
    values = np.random.default_rng(2).uniform(0.01, 60_000, size=10_000).astype(np.float32)
    codec = Cast(mode="absolute", dtype=dtype)
    context = context_for({"x": values})
    decoded = codec.decode(codec.encode({"x": values}, context), context)["x"]
    assert np.all(np.abs(decoded - values) <= np.abs(values) * 2.0**-bits)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("stored", [np.float32, np.float64])
def test_cast_clips_instead_of_overflowing(dtype: str, stored: type[np.floating[Any]]) -> None:
    most = np.finfo(stored).max
    values = np.array([most, -most, 65520.0], stored)
    codec = Cast(mode="absolute", dtype=dtype)
    context = context_for({"x": values})
    assert np.isfinite(codec.decode(codec.encode({"x": values}, context), context)["x"]).all()


def test_cast_refuses_what_is_not_finite() -> None:
    values = np.array([1.0, np.nan], np.float32)
    with pytest.raises(CodecError, match="'x' holds values that are not finite"):
        Cast().encode({"x": values}, context_for({"x": values}))


def test_wrong_tensors_are_named() -> None:
    context = context_for(awkward_tensors())
    with pytest.raises(CodecError, match="'nobody' is not part of the model"):
        NoCompression().quantise({"nobody": np.zeros(1, np.float32)}, context)
    with pytest.raises(CodecError, match=r"'half' has shape \(2,\), the model has \(7,\)"):
        NoCompression().quantise({"half": np.zeros(2, np.float16)}, context)


def test_presence_flags_are_canonical() -> None:
    tensors = {"a": np.zeros(1, np.uint8), "b": np.zeros(1, np.uint8)}
    context = context_for(tensors)
    for head in (b"\2", b"\1\xc0", b"\1\x20"):
        with pytest.raises(BitstreamError):
            NoCompression().unpack(head + b"\0\0", context)


def test_id_follows_name_and_settings() -> None:
    assert Cast().id == Cast(dtype="fp16").id
    assert len({codec.id for codec in ALL}) == len(ALL)


def test_unknown_codec_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"codec 'cats' is unknown; did you mean cast\?"):
        CODECS.get("cats")
