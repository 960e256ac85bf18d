"""FedDIP beside other ways to a sparse model, on CIFAR-10 with the thin VGG11.

Five of 50 clients a round, 625 of its 950 images each.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan

PLAN = Plan(
    field=("engine=inline", "experiment=feddip_cifar10"),
    runs={
        "fedavg": ("method=fedavg",),
        "feddip": (),
        "feddip_regrow": ("server_step.reconfigure=prune_dense_average",),
        "magnitude": ("method=magnitude",),
        "snip": ("method=snip",),
    },
    reference="fedavg",
)
