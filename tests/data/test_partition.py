from __future__ import annotations

from collections.abc import Sequence
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcomp.config import compose_config
from fedcomp.data import PARTITIONS
from fedcomp.data.base import Samples, divide
from fedcomp.data.digits import Digits
from fedcomp.data.label_skew import Dirichlet, Pathological, Shards
from fedcomp.data.natural import Natural
from fedcomp.data.partition import Iid, Partition, Quantity, filled_up
from fedcomp.errors import DataError
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Array

partitions = st.one_of(
    st.builds(Iid, sizes=st.sampled_from(["equal", "random"])),
    st.builds(Dirichlet, alpha=st.floats(1e-6, 100), min_samples=st.integers(1, 5)),
    st.builds(Quantity, alpha=st.floats(1e-6, 100), min_samples=st.integers(1, 5)),
    st.builds(Shards, per_client=st.integers(1, 4)),
)


def labelled(labels: Sequence[int] | Array, **columns: Sequence[int] | Array) -> Samples:
    named = {name: np.asarray(values) for name, values in columns.items()}
    return Samples(np.zeros((len(labels), 1)), np.asarray(labels), columns=named)


def split(partition: Partition, samples: Samples, clients: int, seed: int = 0) -> list[Array]:
    return partition.split(samples, clients, np.random.default_rng(seed))


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
    samples = labelled(labels)
    if clients * partition.least > len(labels):
        with pytest.raises(DataError, match=f"at most {len(labels) // partition.least} clients"):
            split(partition, samples, clients, seed)
        return
    parts = split(partition, samples, clients, seed)
    again = split(partition, samples, clients, seed)
    assert len(parts) == clients
    assert min(len(part) for part in parts) >= partition.least
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert all((np.diff(part) > 0).all() for part in parts)


def test_iid_sizes_differ_by_one_at_most() -> None:
    sizes = [len(part) for part in split(Iid(), labelled(np.zeros(103)), 10)]
    assert sorted(set(sizes)) == [10, 11]


def test_random_assignment_has_binomial_sizes() -> None:
    """Var n_k = N·(1/K)·(1 − 1/K)."""
    parts = [split(Iid("random"), labelled(np.zeros(1000)), 10, seed) for seed in range(60)]
    sizes = np.array([[len(part) for part in one] for one in parts])
    assert sizes.var() == pytest.approx(90, rel=0.15)


def test_quantity_skew_follows_dirichlet() -> None:
    """For shares p among K clients, E sum p^2 = (alpha + 1)/(K alpha + 1); labels stay mixed."""
    samples = labelled(np.arange(4000) % 2)
    many = [split(Quantity(0.7, 1), samples, 10, seed) for seed in range(100)]
    squares = [sum((len(part) / 4000) ** 2 for part in parts) for parts in many]
    assert np.mean(squares) == pytest.approx(1.7 / 8, rel=0.1)
    largest = max(many[0], key=len)
    assert samples.targets[largest].mean() == pytest.approx(0.5, abs=0.1)


def test_shards_give_each_client_few_classes_and_equal_sizes() -> None:
    samples = labelled(np.repeat(np.arange(10), 60))
    parts = split(Shards(2), samples, 10)
    assert {len(part) for part in parts} == {60}
    assert max(len(set(samples.targets[part])) for part in parts) == 2  # 20 shards, 2 a class


def test_a_shard_of_a_class_holds_random_samples_of_it() -> None:
    first, other = (split(Shards(1), labelled(np.zeros(100)), 2, seed)[0] for seed in (0, 1))
    assert np.diff(first).max() > 1
    assert not np.array_equal(first, other)


def one_at_a_time(sizes: Array, least: int) -> list[int]:
    """Return the sizes after each step from the largest client to the smallest, ascending."""
    sizes = sizes.copy()
    while sizes.min() < least:
        sizes[sizes.argmax()] -= 1
        sizes[sizes.argmin()] += 1
    return sorted(sizes.tolist())


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.data())
def test_small_clients_are_filled_up_from_the_largest(
    sizes: list[int], data: st.DataObject
) -> None:
    least = data.draw(st.integers(0, sum(sizes) // len(sizes)))
    before = np.repeat(np.arange(len(sizes)), sizes)
    after = filled_up(before.copy(), len(sizes), least, np.random.default_rng(0))
    found = np.bincount(after, minlength=len(sizes))
    assert sorted(found.tolist()) == one_at_a_time(np.array(sizes), least)
    gained = set(after[after != before].tolist())
    assert gained == {at for at, size in enumerate(sizes) if size < least}


def test_samples_that_fill_up_are_drawn_at_random() -> None:
    before = np.repeat([0, 1], 500)
    runs = [filled_up(before.copy(), 4, 200, np.random.default_rng(seed)) for seed in range(40)]
    for client in (2, 3):
        chances = np.mean([run == client for run in runs], axis=0)
        parts = [chances[start : start + 250].mean() for start in (0, 250, 500, 750)]
        assert parts == pytest.approx([0.2] * 4, abs=0.02)


def test_filling_up_many_clients_is_quick() -> None:
    start = process_time()
    parts = split(Quantity(0.01, 190), labelled(np.zeros(200_000)), 1000)
    assert process_time() - start < 5
    assert min(map(len, parts)) == 190


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3))
def test_pathological_clients_see_k_classes(
    clients: int, classes: int, per_client: int, seed: int
) -> None:
    samples = labelled(np.arange(classes * 20) % classes)
    partition = Pathological(per_client)
    if not classes <= clients * per_client or per_client > classes:
        with pytest.raises(DataError, match=r"partition\.classes_per_client=.*allowed are"):
            split(partition, samples, clients, seed)
        return
    parts = split(partition, samples, clients, seed)
    assert sorted(np.concatenate(parts)) == list(range(len(samples)))
    held = [set(samples.targets[part]) for part in parts]
    assert {len(own) for own in held} == {per_client}
    holders = [sum(label in own for own in held) for label in range(classes)]
    assert max(holders) - min(holders) <= 1


def test_pathological_needs_a_sample_of_each_class_for_each_holder() -> None:
    with pytest.raises(DataError, match="class 1 has 2 samples for 5 clients"):
        split(Pathological(2), labelled([0] * 8 + [1] * 2), 5)


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 8))
def test_natural_keeps_groups_whole(groups: list[int], clients: int) -> None:
    samples = labelled(np.zeros(len(groups)), patient=groups)
    if clients > min(len(set(groups)), len(groups)):
        with pytest.raises(DataError, match=r"lower clients|at most"):
            split(Natural(), samples, clients)
        return
    parts = split(Natural(), samples, clients)
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    owned = [set(np.array(groups)[part]) for part in parts]
    assert all(owned)
    assert sum(map(len, owned)) == len(set(groups))


@pytest.mark.parametrize("seed", range(5))
def test_natural_deals_the_largest_groups_first(seed: int) -> None:
    groups = [0] * 30 + list(range(1, 31))
    parts = split(Natural(), labelled(np.zeros(60), patient=groups), 2, seed)
    assert [len(part) for part in parts] == [30, 30]


def test_natural_asks_for_a_column_that_is_there() -> None:
    with pytest.raises(DataError, match="choose another partition"):
        split(Natural(), labelled([0, 1]), 1)
    samples = labelled([0, 1], patient=[1, 2], cause=[1, 1])
    assert len(split(Natural("patient"), samples, 2)) == 2
    with pytest.raises(DataError, match=r"1 groups \(partition\.column=cause\)"):
        split(Natural("cause"), samples, 2)
    with pytest.raises(DataError, match=r"partition\.column=patiens.*patient"):
        split(Natural("patiens"), samples, 2)


@pytest.mark.parametrize("alpha", [0.01, 0.3, 1.0, 100.0])
def test_shares_are_dirichlet(alpha: float) -> None:
    """For shares p of one class among K clients, E sum p^2 = (alpha + 1)/(K alpha + 1)."""
    clients, targets = 10, np.repeat(np.arange(20), 500)
    squares = []
    for seed in range(20):
        parts = split(Dirichlet(alpha=alpha, min_samples=1), labelled(targets), clients, seed)
        counts = np.array([np.bincount(targets[part], minlength=20) for part in parts])
        squares += list(np.square(counts / 500).sum(axis=0))
    expected = (alpha + 1) / (clients * alpha + 1)
    assert np.mean(squares) == pytest.approx(expected, rel=0.05)


def test_registered_partitions_carry_their_name() -> None:
    assert {name: PARTITIONS.get(name).name for name in PARTITIONS.names()} == {
        name: name for name in ("iid", "dirichlet", "natural", "pathological", "quantity", "shards")
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
