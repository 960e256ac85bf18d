"""Four methods of `headline` with 3 of the 10 clients in each round, three seeds each."""

from __future__ import annotations

from scripts.reproductions.headline import FIELD, FULL, QUICK
from scripts.reproductions.noniid import RUNS
from scripts.reproductions.plan import Plan

PLAN = Plan(
    field=(*FIELD, "fraction=0.3"),
    runs=RUNS,
    reference="fedavg",
    seeds=(1, 2, 3),
    quick=QUICK,
    full=FULL,
)
