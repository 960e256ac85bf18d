from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcomp.cli import prepare
from fedcomp.config import compose_config
from fedcomp.data.base import divide
from fedcomp.data.digits import Digits
from fedcomp.errors import ConfigError, DataError
from fedcomp.settings import parse
from fedcomp.setup import Setup
from tests.common import QUICK, equal
from tests.data.test_folder import xrays


def setup(*words: str) -> Setup:
    return Setup(parse(compose_config([*QUICK, *words])))


def test_version_0_is_that_of_an_untrained_module() -> None:
    here = setup()
    initial = {name: value.copy() for name, value in here.initial.items()}
    with torch.no_grad():
        for parameter in here.module.parameters():
            parameter.add_(1)
    assert equal(here.take_initial(), initial)
    assert equal(here.initial, initial), "built anew"


def test_an_unreadable_data_set_names_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Digits, "load", fail)
    with pytest.raises(DataError, match=r"there.*Permission denied"):
        _ = setup("data_dir=there").dataset


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.floats(0.01, 0.9))
def test_groups_are_not_divided(groups: list[int], share: float) -> None:
    found = np.array(groups)
    rest, taken = divide(len(groups), share, np.random.default_rng(0), found)
    assert sorted([*rest, *taken]) == list(range(len(groups)))
    assert len(rest) >= 1
    if len(set(groups)) > 1:
        assert not set(found[rest]) & set(found[taken])
        assert len(taken) >= 1


def test_no_patient_is_trained_and_validated_on(tmp_path: Path) -> None:
    xrays(tmp_path)
    words = ("dataset=chest_xray", "partition=natural", "clients=2", "dataset.validation=0.4")
    here = setup(*words, "dataset.size=8", f"data_dir={tmp_path}")
    patient = here.dataset.train.columns["patient"]
    for client in range(2):
        rest, validation = here.client_indices(client)
        assert len(validation)
        assert not set(patient[rest]) & set(patient[validation])


def test_single_samples_and_batch_norm_do_not_go_together() -> None:
    words = ["engine=inline", "model=vgg11_cifar", "model.batch_norm=true"]
    for more, problem in (
        (["train.batch_size=1"], r"train\.batch_size=1, and a batch norm of model=vgg11_cifar"),
        (["clients=1438"], "a client has a single sample, and a batch norm"),
    ):
        with pytest.raises(ConfigError, match=problem):
            prepare(compose_config([*words, *more]))
    prepare(compose_config(["engine=inline", "train.batch_size=1"]))
