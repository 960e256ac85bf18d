"""FedCompress beside FedAvg and FedZip on spoken digits, with a small audio net.

DS-CNN-S on log-mel features, 10 clients, 4 epochs a round, of which FedCompress takes half with
clustered weights.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan

_FIELD = "experiment=ds_cnn_speech"
_OURS = "experiment=fedcompress_speech"

PLAN = Plan(
    field=("engine=inline",),
    runs={
        "fedavg": (_FIELD, "method=fedavg"),
        "fedcompress": (_OURS,),
        "held_out": (_OURS, "dataset.server_data=held_out:0.05"),
        "client_only": (_OURS, "server_step.distillation.epochs=0"),
        "fedzip_both_ways": (_FIELD, "method=fedzip", "codec@downlink=fedzip"),
    },
    reference="fedavg",
)
