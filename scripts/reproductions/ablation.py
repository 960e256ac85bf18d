"""What each part of method fedcomp gives, on the field of `headline`.

The learning rate is that of all runs; without gain, and with more dimensions, steps are shorter,
which is part of what is seen.  Longer steps of the server are tried with FedAvg and STC, too.
"""

from __future__ import annotations

from scripts.reproductions.headline import FIELD, FULL, QUICK
from scripts.reproductions.plan import Plan

_OURS = "method=fedcomp"
_FIXED = (_OURS, "codec@uplink=subspace", "codec@downlink=subspace")


def _both(setting: str) -> tuple[str, ...]:
    return (f"uplink.{setting}", f"downlink.{setting}")


PLAN = Plan(
    field=FIELD,
    runs={
        "fedavg": ("method=fedavg",),
        "fedcomp": (_OURS,),
        "fedavg_longer_steps": ("method=fedavg", "strategy=server_sgd"),
        "stc_longer_steps": ("method=stc", "strategy=server_sgd"),
        "without_both": (_OURS, "strategy=fedavg", *_both("schedule.shape=doubling")),
        "without_longer_steps": (_OURS, "strategy=fedavg"),
        "equal_stages": (_OURS, *_both("schedule.shape=doubling")),
        "2000_dimensions": _FIXED,
        "8000_dimensions": (*_FIXED, *_both("dimensions=8000")),
        "levels": (_OURS, *_both("quantiser=uniform"), *_both("coder=cabac")),
        "fine_levels": (
            *(*_FIXED, *_both("quantiser=uniform")),
            *(*_both("width=0.02"), *_both("coder=cabac")),
        ),
        "without_gain": (_OURS, "recipe.gain=0"),
        "without_feedback": (_OURS, "link.feedback=false"),
        "trained_outside": (_OURS, "recipe=local"),
        "down_uncompressed": (_OURS, "codec@downlink=none"),
    },
    reference="fedavg",
    quick=QUICK,
    full=FULL,
)
