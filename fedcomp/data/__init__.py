"""Data sets and the ways to divide them among clients."""

from __future__ import annotations

from fedcomp.data.base import DatasetSettings
from fedcomp.data.partition import Partition
from fedcomp.registry import Registry

DATASETS: Registry[type[DatasetSettings]] = Registry(
    "dataset",
    {
        "cifar10": "fedcomp.data.cifar:Cifar10",
        "cifar100": "fedcomp.data.cifar:Cifar100",
        "chest_xray": "fedcomp.data.chest_xray:ChestXRay",
        "digits": "fedcomp.data.digits:Digits",
        "fashion_mnist": "fedcomp.data.mnist:FashionMnist",
        "folder": "fedcomp.data.folder:Folder",
        "mnist": "fedcomp.data.mnist:Mnist",
        "pneumoniamnist": "fedcomp.data.medmnist:PneumoniaMnist",
        "speech_commands": "fedcomp.data.speech_commands:SpeechCommands",
        "voc": "fedcomp.data.voc:Voc",
        "voc_seg": "fedcomp.data.voc:VocSeg",
    },
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
