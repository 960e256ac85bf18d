from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.config import compose_config
from fedcomp.data import PARTITIONS
from fedcomp.data.base import Samples, divide
from fedcomp.data.digits import Digits
from fedcomp.data.partition import Dirichlet, Iid, Partition
from fedcomp.errors import DataError
from fedcomp.settings import parse
from fedcomp.setup import Setup

partitions = st.one_of(
    st.just(Iid()),
    st.builds(Dirichlet, alpha=st.floats(1e-6, 100), min_samples=st.integers(1, 5)),
)


@settings(deadline=None)
@given(
    partitions,
    st.lists(st.integers(0, 4), min_size=1, max_size=80),
    st.integers(1, 12),
    st.integers(0, 5),
)
def test_every_sample_goes_to_one_client(
    partition: Partition, labels: list[int], clients: int, seed: int
) -> None:
    targets = np.array(labels)
    if clients * partition.least > len(labels):
        with pytest.raises(DataError, match=f"at most {len(labels) // partition.least} clients"):
            partition.split(targets, clients, np.random.default_rng(seed))
        return
    parts = partition.split(targets, clients, np.random.default_rng(seed))
    again = partition.split(targets, clients, np.random.default_rng(seed))
    assert len(parts) == clients
    assert min(len(part) for part in parts) >= partition.least
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert all((np.diff(part) > 0).all() for part in parts)


def test_iid_sizes_differ_by_one_at_most() -> None:
    sizes = [len(p) for p in Iid().split(np.zeros(103), 10, np.random.default_rng(0))]
    assert sorted(set(sizes)) == [10, 11]


@pytest.mark.parametrize("alpha", [0.01, 0.3, 1.0, 100.0])
def test_shares_are_dirichlet(alpha: float) -> None:
    """For shares p of one class among K clients, E sum p^2 = (alpha + 1)/(K alpha + 1)."""
    clients, targets = 10, np.repeat(np.arange(20), 500)
    squares = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        parts = Dirichlet(alpha=alpha, min_samples=1).split(targets, clients, rng)
        counts = np.array([np.bincount(targets[part], minlength=20) for part in parts])
        squares += list(np.square(counts / 500).sum(axis=0))
    expected = (alpha + 1) / (clients * alpha + 1)
    assert np.mean(squares) == pytest.approx(expected, rel=0.05)


def test_registered_partitions_carry_their_name() -> None:
    assert {name: PARTITIONS.get(name).name for name in PARTITIONS.names()} == {
        "iid": "iid",
        "dirichlet": "dirichlet",
    }


@given(st.integers(1, 50), st.floats(0, 0.99))
def test_divide_keeps_every_sample_and_one_for_training(count: int, share: float) -> None:
    rest, taken = divide(count, share, np.random.default_rng(0))
    assert sorted([*rest, *taken]) == list(range(count))
    assert len(rest) >= 1
    assert bool(len(taken)) == (share > 0 and count > 1)


def test_digits_are_the_same_in_every_run(tmp_path: object) -> None:
    first, second = Digits().load(tmp_path), Digits().load(tmp_path)  # type: ignore[arg-type]
    assert (len(first.train), len(first.test), first.classes) == (1438, 359, 10)
    assert first.input_shape == (1, 8, 8)
    assert first.train.inputs.dtype == np.float32
    assert first.train.inputs.max() == 1.0
    assert np.array_equal(first.test.inputs, second.test.inputs)


def test_samples_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 inputs do not fit 2 targets"):
        Samples(np.zeros((3, 1)), np.zeros(2))


def test_clients_keep_their_samples_apart() -> None:
    config = compose_config(["clients=7", "partition=dirichlet", "dataset.validation=0.25"])
    setup = Setup(parse(config))
    sizes = [tuple(map(len, setup.client_samples(client))) for client in range(7)]
    assert sum(train + validation for train, validation in sizes) == 1438
    for train, validation in sizes:
        assert abs(validation - 0.25 * (train + validation)) <= 1
