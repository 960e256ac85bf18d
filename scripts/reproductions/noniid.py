"""Four methods of `headline` on data divided evenly, unevenly and very unevenly, three seeds.

With data divided so unevenly FedAvg goes up and down by many points from round to round; where its
half-way round is a low one, the target is hardly above chance, and a ratio says little.
"""

from __future__ import annotations

from scripts.reproductions.headline import FIELD, FSFL, FULL, QUICK
from scripts.reproductions.plan import Plan

RUNS = {
    "fedavg": ("method=fedavg",),
    "fedcomp": ("method=fedcomp",),
    "stc": ("method=stc",),
    "fsfl": FSFL,
}

PLAN = Plan(
    field=FIELD,
    runs=RUNS,
    reference="fedavg",
    cases={
        "iid": ("partition=iid",),
        "dirichlet05": ("partition.alpha=0.5",),
        "dirichlet01": ("partition.alpha=0.1",),
    },
    seeds=(1, 2, 3),
    quick=QUICK,
    full=FULL,
)
