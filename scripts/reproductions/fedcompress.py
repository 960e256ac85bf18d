"""FedCompress, what it is without its server's part, FedZip and FedAvg, on CIFAR-10 with ResNet-20.

20 clients, all in each round, 20 batches of 25 images each, of which FedCompress takes half with
clustered weights; 20 rounds.  conf/experiment/fedcompress_cifar10.yaml says what is reduced, and
what is not as published; in `published` the latter is.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan

_FIELD = "experiment=resnet20_cifar10"
_OURS = "experiment=fedcompress_cifar10"
_PUBLISHED = (
    *("server_step.clusters.least=8", "server_step.clusters.most=30"),
    *("server_step.carry=false", "recipe.lr=0.0005"),
)

PLAN = Plan(
    field=("engine=inline",),
    runs={
        "fedavg": (_FIELD, "method=fedavg"),
        "fedcompress": (_OURS,),
        "held_out": (_OURS, "dataset.server_data=held_out:0.05"),
        "published": (_OURS, *_PUBLISHED),
        "client_only": (_OURS, "server_step.distillation.epochs=0"),
        "fedzip": (_FIELD, "method=fedzip"),
        "fedzip_both_ways": (_FIELD, "method=fedzip", "codec@downlink=fedzip"),
    },
    reference="fedavg",
)
