"""FedCompress, what it is without its server's part, FedZip and FedAvg, on CIFAR-10 with ResNet-20.

20 clients, all in each round, 10 + 10 batches of 25 images each (FedAvg and FedZip train 20 as they
always do), 20 rounds: FedCompress's setting but for its 5 + 5 epochs and 100 rounds.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan

_TWICE = "train.steps=20"

PLAN = Plan(
    field=("engine=inline", "experiment=fedcompress_cifar10"),
    runs={
        "fedavg": ("method=fedavg", _TWICE),
        "fedcompress": (),
        "held_out": ("dataset.server_data=held_out:0.05",),
        "client_only": ("server_step.distillation.epochs=0",),
        "fedzip": ("method=fedzip", _TWICE),
        "fedzip_both_ways": ("method=fedzip", "codec@downlink=fedzip", _TWICE),
    },
    reference="fedavg",
)
