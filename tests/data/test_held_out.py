"""What is held out for the server: no client gets it, and all others are divided as ever."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from fedcomp import seeds
from fedcomp.data.chest_xray import ChestXRay
from fedcomp.data.digits import Digits
from fedcomp.data.label_skew import Dirichlet, Pathological
from fedcomp.data.natural import Natural
from fedcomp.data.partition import Iid, Partition
from fedcomp.errors import DataError
from fedcomp.setup import Setup
from tests.data.test_folder import xrays
from tests.data.test_server_data import check, setup

HELD_OUT = Digits(server_data="held_out:0.05")


@pytest.mark.parametrize("partition", [Iid(), Dirichlet(), Pathological()])
def test_held_out_samples_go_to_no_client(tmp_path: Path, partition: Partition) -> None:
    here = setup(tmp_path, HELD_OUT, partition=partition, clients=7)
    shared, kept = here.divided
    assert len(kept) == round(0.05 * 1438)
    np.testing.assert_array_equal(np.sort(np.concatenate(here.partition)), shared)
    np.testing.assert_array_equal(np.sort([*shared, *kept]), np.arange(1438))
    assert all((np.diff(part) > 0).all() for part in here.partition)
    for one, other in zip(here.partition, Setup(here.settings).partition, strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(setup(tmp_path, HELD_OUT, seed=99).divided[1]) != set(kept)


def test_the_server_gets_what_is_held_out(tmp_path: Path) -> None:
    here = setup(tmp_path, HELD_OUT)
    own = here.dataset.train.inputs[here.divided[1]]
    np.testing.assert_array_equal(check(here, 100, len(own)), own)
    some = {image.tobytes() for image in check(here, 20)}
    assert some < {image.tobytes() for image in own}


def test_clients_are_divided_as_before_where_nothing_is_held_out(tmp_path: Path) -> None:
    here = setup(tmp_path, partition=Dirichlet())
    rng = seeds.generator(here.settings.seed, "partition")
    expected = Dirichlet().split(here.dataset.train, here.settings.clients, rng)
    for found, wanted in zip(here.partition, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_held_out_patient_is_no_client_s(tmp_path: Path) -> None:
    xrays(tmp_path)

    def held_out(share: float) -> Setup:
        dataset = ChestXRay(size=8, server_data=f"held_out:{share}")
        return setup(tmp_path, dataset, partition=Natural(), clients=2)

    here = held_out(0.3)
    patient, (shared, kept) = here.dataset.train.columns["patient"], here.divided
    assert len(kept)
    assert not set(patient[shared]) & set(patient[kept])
    assert sorted(np.concatenate(here.partition)) == sorted(shared)
    with pytest.raises(DataError, match=r"clients=2: "):
        _ = held_out(0.99).partition


def test_whole_groups_that_are_far_too_many_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    xrays(tmp_path)
    dataset = ChestXRay(size=8, server_data="held_out:0.01")
    here = setup(tmp_path, dataset, partition=Natural(), clients=2)
    count = len(here.dataset.train)
    with caplog.at_level(logging.WARNING, "fedcomp"):
        kept = len(here.divided[1])
    assert f"the server keeps {kept} of {count} samples, since partition=natural" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "fedcomp"):
        _ = setup(tmp_path, HELD_OUT).divided
    assert not caplog.text
