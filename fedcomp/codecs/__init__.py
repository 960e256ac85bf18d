"""Codecs: tensors to bytes and back, one file each; `base` is the contract."""

from __future__ import annotations

from fedcomp.codecs.base import Codec, Context, Direction, Mode
from fedcomp.registry import Registry

CODECS: Registry[type[Codec]] = Registry(
    "codec",
    {
        "cast": "fedcomp.codecs.cast:Cast",
        "clustered": "fedcomp.codecs.clustered:Clustered",
        "cossgd": "fedcomp.codecs.cossgd:CosSgd",
        "deepcabac": "fedcomp.codecs.nnc:DeepCabac",
        "ecq": "fedcomp.codecs.ecq:Ecq",
        "eden": "fedcomp.codecs.eden:Eden",
        "fedzip": "fedcomp.codecs.fedzip:FedZip",
        "fsfl": "fedcomp.codecs.fsfl:Fsfl",
        "kmeans": "fedcomp.codecs.kmeans:KMeans",
        "linear": "fedcomp.codecs.linear:Linear",
        "lossless": "fedcomp.codecs.lossless:Lossless",
        "masked": "fedcomp.codecs.masked:MaskedCodec",
        "mixed": "fedcomp.codecs.mixed:Mixed",
        "nnc": "fedcomp.codecs.nnc:Nnc",
        "none": "fedcomp.codecs.none:NoCompression",
        "powersgd": "fedcomp.codecs.powersgd:PowerSgd",
        "qsgd": "fedcomp.codecs.qsgd:Qsgd",
        "randk": "fedcomp.codecs.randk:RandK",
        "sign": "fedcomp.codecs.sign:Sign",
        "signsgd": "fedcomp.codecs.signsgd:SignSgd",
        "stc": "fedcomp.codecs.stc:Stc",
        "subspace": "fedcomp.codecs.subspace:Subspace",
        "terngrad": "fedcomp.codecs.terngrad:TernGrad",
        "threshold": "fedcomp.codecs.threshold:Threshold",
        "topk": "fedcomp.codecs.topk:TopK",
        "uniform": "fedcomp.codecs.uniform:Uniform",
    },
)

__all__ = ["CODECS", "Codec", "Context", "Direction", "Mode"]
