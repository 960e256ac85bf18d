"""Methods beside each other on X-rays of children's chests, no patient at two clients.

conf/experiment/chest_xray.yaml is the field, and says how it is cut.
"""

from __future__ import annotations

from scripts.reproductions.plan import Plan
from scripts.reproductions.voc import RUNS

PLAN = Plan(
    field=("engine=inline", "experiment=chest_xray"),
    runs=RUNS,
    reference="fedavg",
    quick=("rounds=4", "train.steps=2"),
)
