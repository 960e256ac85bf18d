"""ECQ^x, ECQ, FSFL and FedAvg, on CIFAR-10 with ResNet-20.

20 clients, all in each round, 20 batches of 25 images each; 20 rounds.  The published ECQ^x starts
from a trained model and has no clients; that is what `fedcomp-quantise` does.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan

_FIELD = "experiment=resnet20_cifar10"
_OURS = "experiment=ecqx_cifar10"

PLAN = Plan(
    field=("engine=inline",),
    runs={
        "fedavg": (_FIELD, "method=fedavg"),
        "ecqx": (_OURS,),
        "ecq": (_OURS, "method=ecq"),
        "ecqx_differences": (_OURS, "uplink.mode=delta"),
        "ecqx_3_bits": (_OURS, "uplink.bits=3", "downlink.bits=3"),
        "fsfl": (_FIELD, "method=fsfl"),
    },
    reference="fedavg",
)
