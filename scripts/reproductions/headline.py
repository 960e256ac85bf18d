"""All systems side by side on CIFAR-10, every byte of both directions counted.

conf/experiment/headline.yaml is the field.  Each method has its own defaults but for what so short
a run asks for: FedCompress has more clusters and less to distil, and trains half its steps with
clustered weights (conf/experiment/fedcompress_cifar10.yaml); FSFL has one short epoch for its scale
factors; codecs that are no method of their own go both ways.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan


def _both(codec: str, *settings: str) -> tuple[str, ...]:
    """Return the words of FedAvg with a codec both ways."""
    given = (f"{way}.{setting}" for setting in settings for way in ("uplink", "downlink"))
    return ("method=fedavg", f"codec@uplink={codec}", f"codec@downlink={codec}", *given)


FIELD = ("engine=inline", "experiment=headline")

FSFL = ("method=fsfl", "recipe.scales.epochs=1", "recipe.scales.steps=5")

_FEDCOMPRESS = (
    *("method=fedcompress", "train.steps=10", "recipe.lr=0.001"),
    *("server_step.clusters.least=64", "server_step.clusters.most=128"),
    *("server_step.distillation.epochs=5", "server_step.distillation.samples=500"),
    "server_step.distillation.batch_size=64",
)

QUICK = ("rounds=4", "train.batch_size=5")

PLAN = Plan(
    field=FIELD,
    runs={
        "fedavg": ("method=fedavg",),
        "fedcomp": ("method=fedcomp",),
        "stc": ("method=stc",),
        "fsfl": FSFL,
        "fsfl_unscaled": ("method=fsfl_unscaled",),
        "topk": _both("topk", "density=0.04"),
        "powersgd": _both("powersgd"),
        "deepcabac": ("method=deepcabac",),
        "eden": (*_both("eden"), "downlink.unbiased=false"),
        "cossgd": ("method=cossgd",),
        "ecqx": ("method=ecqx",),
        "fedcompress": _FEDCOMPRESS,
        "feddip": ("method=feddip",),
        "lossless": _both("lossless"),
    },
    reference="fedavg",
    quick=QUICK,
)
