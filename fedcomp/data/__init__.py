"""Data sets and the ways to divide them among clients."""

from __future__ import annotations

from fedcomp.data.base import DatasetSettings
from fedcomp.data.partition import Partition
from fedcomp.registry import Registry

DATASETS: Registry[type[DatasetSettings]] = Registry(
    "dataset",
    {"digits": "fedcomp.data.digits:Digits"},
)

PARTITIONS: Registry[type[Partition]] = Registry(
    "partition",
    {
        "iid": "fedcomp.data.partition:Iid",
        "dirichlet": "fedcomp.data.label_skew:Dirichlet",
        "natural": "fedcomp.data.natural:Natural",
        "pathological": "fedcomp.data.label_skew:Pathological",
        "quantity": "fedcomp.data.partition:Quantity",
        "shards": "fedcomp.data.label_skew:Shards",
    },
)

__all__ = ["DATASETS", "PARTITIONS", "DatasetSettings", "Partition"]
