"""Methods beside each other on Pascal VOC, many labels an image, by mean average precision.

conf/experiment/voc.yaml is the field, and says how it is cut.  Methods that send a small part of
the model, or its signs, need more rounds, and get them: 30 in the place of 20.  The figures are of
about half of VOC2012's images, 2,740 to train and 686 to test.
"""

from __future__ import annotations

from scripts.reproductions.headline import FSFL
from scripts.reproductions.plan import Plan

_LONGER = "rounds=30"

RUNS = {
    "fedavg": ("method=fedavg",),
    "fedcomp": ("method=fedcomp", _LONGER),
    "stc": ("method=stc", _LONGER),
    "fsfl": (*FSFL, _LONGER),
    "fsfl_unscaled": ("method=fsfl_unscaled", _LONGER),
    "deepcabac": ("method=deepcabac",),
    "cossgd": ("method=cossgd",),
}


def plan_of(experiment: str, crop: int) -> Plan:
    """Return the comparison on a set of pictures that are cropped by `crop` pixels where large."""
    large = ("model=resnet20", "dataset.size=128", f"dataset.augment.crop={crop}")
    return Plan(
        field=("engine=inline", f"experiment={experiment}"),
        runs=RUNS,
        reference="fedavg",
        quick=("rounds=4", "train.steps=2"),
        full=(*large, "train.steps=null", "train.epochs=1"),
    )


PLAN = plan_of("voc", crop=16)
