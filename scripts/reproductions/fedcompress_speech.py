"""FedCompress beside FedAvg and FedZip on spoken digits, with a small audio net.

DS-CNN-S on log-mel features, 10 clients; FedAvg and FedZip train 4 epochs as they always do,
FedCompress 2 + 2.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan

_TWICE = "train.epochs=4"

PLAN = Plan(
    field=("engine=inline", "experiment=fedcompress_speech"),
    runs={
        "fedavg": ("method=fedavg", _TWICE),
        "fedcompress": (),
        "held_out": ("dataset.server_data=held_out:0.05",),
        "client_only": ("server_step.distillation.epochs=0",),
        "fedzip_both_ways": ("method=fedzip", "codec@downlink=fedzip", _TWICE),
    },
    reference="fedavg",
)
