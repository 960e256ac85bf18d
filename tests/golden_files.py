"""Write the checked-in payloads that do not exist yet: `python -m tests.golden_files`.

A file that exists is not changed, so that bytes of an older version stay readable; before the first
release a format may change, and its file with it.
"""

from __future__ import annotations

import json
from typing import get_args

import numpy as np

from fedcomp.codecs.cast import Cast
from fedcomp.codecs.clustered import Clustered
from fedcomp.codecs.coders import Coder
from fedcomp.codecs.cossgd import CosSgd
from fedcomp.codecs.ecq import Ecq
from fedcomp.codecs.eden import Eden
from fedcomp.codecs.fedzip import FedZip
from fedcomp.codecs.fsfl import Fsfl
from fedcomp.codecs.kmeans import KMeans
from fedcomp.codecs.levels import FINE_STEP
from fedcomp.codecs.linear import Linear
from fedcomp.codecs.lossless import Lossless
from fedcomp.codecs.masked import MaskedCodec
from fedcomp.codecs.nnc import DeepCabac, Nnc
from fedcomp.codecs.none import NoCompression
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
from fedcomp.tensors import subtract
from tests.common import GOLDEN, awkward_tensors, context_for, digest

CODECS = {
    "none": NoCompression(),
    "cast-fp16": Cast(mode="absolute"),
    "cast-fp16-delta": Cast(),
    "cast-bf16": Cast(mode="absolute", dtype="bf16"),
    "uniform": Uniform(),
    "uniform-stochastic": Uniform(mode="absolute", bits=4, rounding="stochastic"),
    **{f"uniform-{c}": Uniform(bits=None, step=0.01, coder=c) for c in get_args(Coder)},
    "topk": TopK(density=0.1),
    "ecq": Ecq(),
    "ecq-delta": Ecq(mode="delta", bits=3, predict=False),
    "nnc": Nnc(),
    "nnc-dependent": Nnc(quantiser="dependent"),
    "deepcabac": DeepCabac(),
    "fsfl": Fsfl(step=2.0**-12, fine_step=FINE_STEP, sparsity="threshold", gain=0.9),
    "linear": Linear(rounding="nearest"),
    "fsfl-target": Fsfl(sparsity="target"),
    "stc": Stc(density=0.2),
    "subspace": Subspace(dimensions=40, whole=10),
    "subspace-uniform": Subspace(dimensions=40, whole=10, quantiser="uniform", coder="cabac"),
    "qsgd": Qsgd(bucket=10),
    "terngrad": TernGrad(),
    "sign": Sign(),
    "clustered": Clustered(),
    "cossgd": CosSgd(),
    "cossgd-stochastic": CosSgd(bits=4, rounding="stochastic", density=0.5, coder="fixed"),
    "signsgd": SignSgd(),
    "randk": RandK(density=0.3),
    "kmeans": KMeans(clusters=5),
    "kmeans-absolute": KMeans(mode="absolute", clusters=4, keep_zero=True, coder="fixed"),
    "fedzip": FedZip(density=0.3),
    "powersgd": PowerSgd(rank=1),
    "randk-unbiased": RandK(density=0.3, unbiased=True, coder="fixed"),
    "eden": Eden(),
    "eden-cabac": Eden(mode="absolute", bits=4, unbiased=False, coder="cabac"),
    "randk-model": RandK(density=0.3, scope="model"),
    "lossless": Lossless(xor=False),
    "lossless-xor": Lossless(),
    "masked": MaskedCodec(),
    "masked-absolute": MaskedCodec("absolute", NoCompression()),
    "threshold": Threshold(relative=1.5),
}


def main() -> None:
    """Write what is missing."""
    model = awkward_tensors()
    context = context_for(model)
    zero = {name: np.zeros_like(value) for name, value in model.items()}
    few = KMeans(mode="absolute", clusters=5)
    clustered = few.decode(few.encode(model, context), context)
    index = GOLDEN / "decoded.json"
    digests = json.loads(index.read_text()) if index.exists() else {}
    for name, codec in CODECS.items():
        path = GOLDEN / f"{name}.bin"
        if not path.exists():
            given = subtract(model, zero) if codec.mode == "delta" else model
            given = clustered if isinstance(codec, Clustered) else given
            path.write_bytes(codec.encode(given, context))
        digests.setdefault(name, digest(codec.decode(path.read_bytes(), context)))
    index.write_text(json.dumps(digests, indent=2) + "\n")


if __name__ == "__main__":
    main()
