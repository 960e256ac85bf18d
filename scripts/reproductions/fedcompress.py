"""FedCompress, what it is without its server's part, FedZip and FedAvg, on CIFAR-10 with ResNet-20.

20 clients, all in each round, 20 batches of 25 images each, of which FedCompress takes half with
clustered weights; 20 rounds.  Its paper has 5 + 5 epochs and 100 rounds.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan

_FIELD = "experiment=resnet20_cifar10"
_OURS = "experiment=fedcompress_cifar10"

PLAN = Plan(
    field=("engine=inline",),
    runs={
        "fedavg": (_FIELD, "method=fedavg"),
        "fedcompress": (_OURS,),
        "held_out": (_OURS, "dataset.server_data=held_out:0.05"),
        "client_only": (_OURS, "server_step.distillation.epochs=0"),
        "fedzip": (_FIELD, "method=fedzip"),
        "fedzip_both_ways": (_FIELD, "method=fedzip", "codec@downlink=fedzip"),
    },
    reference="fedavg",
)
