"""Data: prepared batches beside torchvision's, and the memory of many virtual clients.

The images are random, in the layout of CIFAR-10: 50,000 to train, 10,000 to test.
"""

from __future__ import annotations

import pickle
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10

from fedcomp.data.cifar import Cifar10
from fedcomp.data.preparation import Augment
from fedcomp.runtime import limit_threads
from fedcomp.training.batches import Batches
from scripts.benchmarks.children import run_module
from scripts.benchmarks.rows import Row, bounded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.data.base import Samples

_BATCH, _BATCHES, _REPEATS = 64, 100, 5
_TARGET = 1 / 5
_CLIENTS, _MEGABYTES = 100, 300
_FILES = (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")


class Unchecked(CIFAR10):  # type: ignore[misc]  # torchvision has no types
    """Torchvision's data set without its check of hashes."""

    def _check_integrity(self) -> bool:
        return True

    def _load_meta(self) -> None:
        """Need no names of classes."""


def rows() -> Iterator[Row]:
    """Measure one row after the other."""
    limit_threads(1)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        _write(folder)
        yield from _batches(folder)
        yield from _clients(folder)


def _batches(folder: Path) -> Iterator[Row]:
    """Seconds for the same number of images: cropped, mirrored, normalised."""
    for name, augment in (
        ("crop, flip", Augment(crop=4, flip=True)),
        ("crop, flip, jitter 0.4", Augment(crop=4, flip=True, jitter=0.4)),
    ):
        samples = Cifar10(verify=False, augment=augment).load(folder).train
        pairs = [(_ours(samples), _theirs(folder, samples)) for _ in range(1 + _REPEATS)]
        ours, theirs = zip(*pairs[1:], strict=True)  # the first pair warms up
        images = _BATCH * _BATCHES
        remark = f"DataLoader(num_workers=0); {images / np.median(ours):,.0f} images/s, one thread"
        yield Row(f"{images} images: {name}", "s", ours, theirs, "peer", _TARGET, remark)


def _ours(samples: Samples) -> float:
    rng = np.random.default_rng(1)
    order = rng.permutation(len(samples))
    began = time.perf_counter()
    batches = Batches(samples, torch.device("cpu"), channels_last=False)
    for at in range(0, _BATCH * _BATCHES, _BATCH):
        batches.training(order[at : at + _BATCH], rng)
    return time.perf_counter() - began


def _theirs(folder: Path, samples: Samples) -> float:
    preparation = samples.preparation
    augment = preparation.augment
    steps = [transforms.RandomCrop(32, augment.crop), transforms.RandomHorizontalFlip()]
    if augment.jitter:
        steps.append(transforms.ColorJitter(*[augment.jitter] * 3))
    steps += [transforms.ToTensor(), transforms.Normalize(preparation.mean, preparation.std)]
    dataset = Unchecked(str(folder), transform=transforms.Compose(steps))
    loader: DataLoader[Any] = DataLoader(dataset, _BATCH, shuffle=True, num_workers=0)

    began = time.perf_counter()
    for _, _ in zip(range(_BATCHES), loader, strict=False):
        pass
    return time.perf_counter() - began


def _clients(folder: Path) -> Iterator[Row]:
    found = run_module("data_child", str(folder), str(_CLIENTS)).written
    ours = [found["bytes"] / 1e6]
    store = found["store"] / 1e6
    remark = f"the data set, of which {store:.0f} MB are mapped, and what an epoch takes; one run"
    yield bounded(f"{_CLIENTS} virtual clients, an epoch each", "MB", ours, _MEGABYTES, remark)


def _write(folder: Path) -> None:
    rng = np.random.default_rng(1)
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    for name in _FILES:
        data = rng.integers(256, size=(10_000, 3072), dtype=np.uint8)
        labels = rng.integers(10, size=10_000).tolist()
        (place / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
