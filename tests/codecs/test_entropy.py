"""What entropy coding makes of the integers of each codec, beside their entropy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from fedcomp.codecs import CODECS, Codec
from fedcomp.codecs.coders import Coder
from fedcomp.codecs.cossgd import CosSgd
from fedcomp.codecs.eden import Eden
from fedcomp.codecs.fedzip import FedZip
from fedcomp.codecs.kmeans import KMeans
from fedcomp.codecs.linear import Linear
from fedcomp.codecs.numbered import Numbered
from fedcomp.codecs.powersgd import PowerSgd
from fedcomp.codecs.qsgd import Qsgd
from fedcomp.codecs.randk import RandK
from fedcomp.codecs.sign import Sign
from fedcomp.codecs.signsgd import SignSgd
from fedcomp.codecs.stc import Stc
from fedcomp.codecs.subspace import Subspace
from fedcomp.codecs.terngrad import TernGrad
from fedcomp.codecs.threshold import Threshold
from fedcomp.codecs.topk import TopK
from fedcomp.codecs.uniform import Uniform
from tests.common import context_for

TENSORS = {"w": np.random.default_rng(3).laplace(size=(512, 512)).astype(np.float32)}
CONTEXT = context_for(TENSORS)

CODED: list[Any] = [
    CosSgd(),
    CosSgd(bits=4),
    Eden(),
    Eden(bits=4),
    FedZip(),
    KMeans(),
    KMeans(clusters=256),
    Linear(bits=4),
    Linear(bits=2, rotation="hadamard"),
    PowerSgd(rank=16),
    Qsgd(),
    Qsgd(s=1),
    RandK(density=0.5, bits=6),
    Sign(),
    SignSgd(),
    Stc(),
    Subspace(dimensions=50_000),
    Subspace(dimensions=50_000, quantiser="uniform"),
    TernGrad(),
    Threshold(bits=4),
    TopK(density=0.05, bits=4),
    Uniform(bits=4),
    Uniform(),
]


def entropy_bytes(codec: Codec) -> float:
    """Return the entropy of the integers by their frequencies, and the floats beside them."""
    symbol = codec.quantise(TENSORS, CONTEXT)["w"]
    _, counts = np.unique(symbol.levels, return_counts=True)
    shares = counts / counts.sum()
    floats = 4 * symbol.numbers.size if isinstance(symbol, Numbered) else 4
    return float(-(counts * np.log2(shares)).sum() / 8) + floats


@pytest.mark.parametrize("codec", CODED, ids=str)
def test_some_coder_comes_near_to_the_entropy(codec: Any) -> None:
    sizes = {
        coder: len(replace(codec, coder=coder).encode(TENSORS, CONTEXT))
        for coder in get_args(Coder)
    }
    entropy = entropy_bytes(codec)
    most = 1.045 if codec.name == "threshold" else 1.02  # few and large levels: contexts cost
    assert min(sizes.values()) <= most * entropy + 64, sizes
    assert sizes["cabac"] <= max(most, 1.03) * entropy + 64, sizes


def test_all_codecs_of_integers_are_here() -> None:
    names = {name for name in CODECS.builtin if "coder" in CODECS.get(name).__annotations__}
    assert names - {"clustered", "masked"} <= {codec.name for codec in CODED}  # these: their tests
    assert len(names) > 12
