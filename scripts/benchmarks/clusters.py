"""k-means of weights: one tensor beside scikit-learn's, and a whole ResNet-18 beside a bound."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from sklearn.cluster import KMeans as Peer
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedcomp.codecs.base import Context
from fedcomp.codecs.clusters import centroids, nearest
from fedcomp.codecs.kmeans import KMeans
from fedcomp.models.resnet_stem import ResNet18Cifar
from fedcomp.runtime import limit_threads
from scripts.benchmarks.link_models import Subject
from scripts.benchmarks.rows import Row, bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from fedcomp.tensors import Array, Tensors

    Found: TypeAlias = tuple[Array, NDArray[np.int64]]

_COUNTS = 16, 30
_TENSOR = "layer3.1.conv1.weight"
_CORES, _SECONDS = 2, 3.0
_REPEATS = 3


def rows() -> Iterator[Row]:
    """Measure one row after the other."""
    subject = Subject.of("ResNet-18", ResNet18Cifar().seeded((3, 32, 32), 10, seed=1))
    weights = weights_of(subject)
    for count in _COUNTS:
        yield from _duel(weights[_TENSOR], count)
    for count in _COUNTS:
        yield _whole(subject, weights, count)


def weights_of(subject: Subject) -> Tensors:
    """Return the first weights of all layers, with noise of heavier tails than they have."""
    rng = np.random.default_rng(1)
    specs = subject.manifest.weights
    found = {}
    for spec in specs:
        first = subject.initial[spec.name]
        noise = rng.laplace(scale=first.std() / 2, size=spec.shape)
        found[spec.name] = first + noise.astype(np.float32)
    return found


def _duel(values: Array, count: int) -> Iterator[Row]:
    """Yield seconds on one core beside each of the peer's algorithms, then errors."""
    limit_threads(1)
    name = f"{values.size} weights, {count} centroids"
    least = np.inf
    for algorithm in ("lloyd", "elkan"):
        own, peer = [], []
        for number in range(1 + _REPEATS):
            own.append(_timed(_ours, values, count))
            fit = partial(_theirs, algorithm=algorithm, seed=number)
            peer.append(_timed(fit, values, count))
        ours, theirs = ([seconds for seconds, _ in found[1:]] for found in (own, peer))
        least = min(least, *(error for _, error in peer))
        remark = f"scikit-learn's {algorithm} from one k-means++; one core"
        yield Row(f"{name}: {algorithm}", "s", ours, theirs, "peer", 1.0, remark)
    remark = f"the peer's least of {2 * (1 + _REPEATS)}"
    yield Row(f"{name}: squared error", "", [own[0][1]], [least], "peer", 1.0, remark)


def _ours(values: Array, count: int) -> Found:
    centres = centroids(values, count)
    return centres, nearest(values, centres).reshape(-1)


def _theirs(values: Array, count: int, *, algorithm: str, seed: int) -> Found:
    with threadpool_limits(1):
        peer = Peer(count, n_init=1, algorithm=algorithm, random_state=seed)
        found = peer.fit(values.reshape(-1, 1))
    return found.cluster_centers_[:, 0], found.labels_


def _timed(cluster: Callable[[Array, int], Found], values: Array, k: int) -> tuple[float, float]:
    """Return seconds, and the squared distance of the values from their centroids."""
    began = time.perf_counter()
    centres, indices = cluster(values, k)
    seconds = time.perf_counter() - began
    distances = centres.astype(np.float64)[indices] - values.reshape(-1)
    return seconds, float(np.square(distances).sum())


def _whole(subject: Subject, weights: Tensors, count: int) -> Row:
    """Time the codec's lossy step: the centroids of each tensor, and the nearest of each weight."""
    limit_threads(_CORES)
    context = Context(subject.manifest, 1, 1, "uplink", "0")
    codec = KMeans(mode="absolute", clusters=count)
    seconds = []
    for _ in range(1 + _REPEATS):
        began = time.perf_counter()
        codec.quantise(weights, context)
        seconds.append(time.perf_counter() - began)
    total = sum(value.size for value in weights.values())
    name = f"{subject.name} of {total / 1e6:.1f} M weights, {count} centroids"
    remark = f"{len(weights)} tensors on {_CORES} cores"
    return bounded(name, "s", seconds[1:], _SECONDS, remark)
