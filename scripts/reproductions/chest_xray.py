"""Methods beside each other on X-rays of children's chests, no patient at two clients.

conf/experiment/chest_xray.yaml is the field, and says how it is cut.  Methods that send a small
part of the model, or its signs, get 30 rounds in the place of 20.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan
from scripts.reproductions.voc import RUNS

PLAN = Plan(
    field=("engine=inline", "experiment=chest_xray"),
    runs=RUNS,
    reference="fedavg",
    quick=("rounds=4", "train.steps=2"),
    full=(
        "model=resnet20",
        "dataset.size=128",
        "dataset.augment.crop=8",
        "train.steps=null",
        "train.epochs=1",
    ),
)
