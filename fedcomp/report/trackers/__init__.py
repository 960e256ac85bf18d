"""Trackers, programs that people follow runs with, one file each; `base` is the contract."""

from __future__ import annotations

from fedcomp.registry import Registry
from fedcomp.report.trackers.base import TrackedRun, Tracker, TrackerSettings

TRACKERS: Registry[type[TrackerSettings]] = Registry(
    "tracker",
    {
        "csv": "fedcomp.report.trackers.csv:Csv",
        "mlflow": "fedcomp.report.trackers.mlflow:Mlflow",
        "tensorboard": "fedcomp.report.trackers.tensorboard:TensorBoard",
        "wandb": "fedcomp.report.trackers.wandb:Wandb",
    },
)

__all__ = ["TRACKERS", "TrackedRun", "Tracker", "TrackerSettings"]
