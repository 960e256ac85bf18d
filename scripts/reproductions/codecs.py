"""Uplink codecs beside each other on CIFAR-10 with CosSGD's net, all else the same.

Ten clients with 4,500 images each, 5,000 images a round; only the bytes of the uplink are compared.
The learning rate falls over the rounds, so that a run that is cut short by its budget of bytes is
judged before its best: “in round” says where.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan


def _up(codec: str, *settings: str) -> tuple[str, ...]:
    return (f"codec@uplink={codec}", *(f"uplink.{setting}" for setting in settings))


PLAN = Plan(
    field=("engine=inline", "experiment=codecs_cifar10"),
    runs={
        "none": _up("none"),
        "lossless": _up("lossless"),
        "cast": _up("cast"),
        "uniform_4bit": _up("uniform", "bits=4"),
        "linear": _up("linear"),
        "linear_clipped": _up("linear", "clip=0.01", "rounding=nearest"),
        "linear_rotated": _up("linear", "rotation=hadamard"),
        "cossgd": _up("cossgd"),
        "kmeans": _up("kmeans"),
        "qsgd": _up("qsgd"),
        "terngrad": _up("terngrad"),
        "eden_2bit": _up("eden", "bits=2"),
        "eden_1bit": _up("eden"),
        "sign": _up("sign"),
        "powersgd": _up("powersgd"),
        "randk": _up("randk", "density=0.04"),
        "threshold": _up("threshold"),
        "topk": _up("topk", "density=0.04"),
        "stc": _up("stc"),
        "fsfl": _up("fsfl"),
        "deepcabac": _up("deepcabac", "step=0.00390625"),
    },
    reference="none",
    counted="uplink",
    budget_bytes=2_000_000,
    quick=("rounds=4", "train.steps=5"),
    full=("rounds=400",),
)
