"""FSFL beside what it is compared with, on CIFAR-10 with the thin VGG11.

Eight clients with 6,250 images each; 5,000 images a round train the weights, FSFL takes up to 2,400
more for its scale factors.  Sparse methods need more rounds, and get them.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan

_FIELD = "experiment=vgg11s_cifar10"
_SPARSE = ("rounds=90", "uplink.rate=0.99", "downlink.rate=0.985")

PLAN = Plan(
    field=("engine=inline",),
    runs={
        "fedavg": (_FIELD, "method=fedavg"),
        "stc": (_FIELD, "method=stc", "rounds=86"),
        "deepcabac": (_FIELD, "method=deepcabac"),
        "fsfl_unscaled": (_FIELD, "method=fsfl_unscaled", *_SPARSE),
        "fsfl": ("experiment=fsfl_cifar10",),
    },
    reference="fedavg",
)
