"""FedDIP beside other ways to a sparse model, on Fashion-MNIST with LeNet-5.

Five of 50 clients a round, 5 epochs each: FedDIP's setting but for its 1,000 rounds; the figures in
conf/experiment/feddip_fashion.yaml are of half of the images.  FedDST and PruneFL, with which its
authors compare too, are not part of the project.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan

_EIGHT = ("uplink.values={name:uniform,bits:8}", "downlink.values={name:uniform,bits:8}")

PLAN = Plan(
    field=("engine=inline", "experiment=feddip_fashion"),
    runs={
        "fedavg": ("method=fedavg",),
        "feddip": (),
        "feddip_regrow": ("server_step.reconfigure=prune_dense_average",),
        "feddip_8bit": _EIGHT,
        "feddip_99": ("server_step.target=0.99", *_EIGHT),
        "magnitude": ("method=magnitude",),
        "snip": ("method=snip",),
    },
    reference="fedavg",
)
