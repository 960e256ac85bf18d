from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedcomp.errors import ConfigError
from fedcomp.models import MODELS
from fedcomp.models.base import load_tensors, manifest_of, read_tensors
from fedcomp.models.mlp import MLP
from fedcomp.models.small_cnn import SmallCNN
from fedcomp.tensors import Kind
from tests.common import equal

SHAPE, CLASSES = (1, 8, 8), 10


@pytest.mark.parametrize(("name", "count"), [("small_cnn", 13_706), ("mlp", 17_226)])
def test_parameter_counts(name: str, count: int) -> None:
    module = MODELS.get(name)().build(SHAPE, CLASSES)
    assert manifest_of(module).parameters == count
    assert sum(p.numel() for p in module.parameters()) == count
    assert module(torch.zeros(2, *SHAPE)).shape == (2, CLASSES)


@pytest.mark.parametrize("name", MODELS.names())
def test_initial_values_follow_from_the_seed_alone(name: str) -> None:
    settings = MODELS.get(name)()
    first = read_tensors(settings.seeded(SHAPE, CLASSES, 5))
    state = torch.random.get_rng_state()
    torch.rand(3)
    assert equal(first, read_tensors(settings.seeded(SHAPE, CLASSES, 5)))
    torch.random.set_rng_state(state)
    torch.rand(3)
    assert not equal(first, read_tensors(settings.seeded(SHAPE, CLASSES, 6)))


def test_loading_is_exact_and_copies() -> None:
    source, target = (MLP().seeded(SHAPE, CLASSES, seed) for seed in (1, 2))
    tensors = read_tensors(source)
    for value in tensors.values():
        value.flags.writeable = False
    load_tensors(target, tensors)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.zero_()
    assert equal(read_tensors(target), tensors)


def test_kinds_come_from_structure() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2), nn.LayerNorm(2))
    kinds = {spec.name: spec.kind for spec in manifest_of(module).specs}
    assert kinds == {
        "0.weight": Kind.WEIGHT,
        "0.bias": Kind.BIAS,
        "1.weight": Kind.NORM,
        "1.bias": Kind.NORM,
        "1.running_mean": Kind.BUFFER,
        "1.running_var": Kind.BUFFER,
        "1.num_batches_tracked": Kind.COUNTER,
        "2.weight": Kind.WEIGHT,
        "2.bias": Kind.BIAS,
        "3.weight": Kind.NORM,
        "3.bias": Kind.NORM,
    }
    manifest = manifest_of(module)
    assert manifest.elements - manifest.parameters == 5
    assert read_tensors(module)["1.num_batches_tracked"].shape == ()


def test_small_cnn_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match=r"shape \(40,\): choose model=mlp"):
        SmallCNN().build((40,), 10)


def test_versions_do_not_depend_on_the_order_of_tensors() -> None:
    from fedcomp.tensors import version_of

    tensors = read_tensors(MLP().seeded(SHAPE, CLASSES, 1))
    backwards = dict(reversed(tensors.items()))
    assert version_of(tensors) == version_of(backwards)
    backwards["1.bias"] = np.nextafter(backwards["1.bias"], np.float32(1))
    assert version_of(tensors) != version_of(backwards)
