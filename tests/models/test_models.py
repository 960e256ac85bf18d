from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fedcomp.models.base import load_tensors, manifest_of, read_tensors
from fedcomp.models.mlp import MLP
from fedcomp.tensors import Kind
from tests.common import equal

SHAPE, CLASSES = (1, 8, 8), 10


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


class Odd(nn.Module):
    """A layer that two names share, and vectors in the shape of matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.first = self.again = nn.Linear(4, 1)
        self.layer_scale = nn.Parameter(torch.ones(4, 1, 1))
        self.class_token = nn.Parameter(torch.ones(1, 1, 4))
        self.positions = nn.Parameter(torch.ones(1, 3, 4))
        self.register_buffer("index", torch.arange(4))
        self.register_buffer("table", torch.ones(2, 2))


def test_kinds_of_shared_layers_and_of_vectors_that_broadcast() -> None:
    assert {spec.name: spec.kind for spec in manifest_of(Odd()).specs} == {
        "layer_scale": Kind.BIAS,
        "class_token": Kind.BIAS,
        "positions": Kind.WEIGHT,
        "index": Kind.COUNTER,
        "table": Kind.BUFFER,
        "first.weight": Kind.WEIGHT,
        "first.bias": Kind.BIAS,
        "again.weight": Kind.WEIGHT,
        "again.bias": Kind.BIAS,
    }


def test_versions_do_not_depend_on_the_order_of_tensors() -> None:
    from fedcomp.tensors import version_of

    tensors = read_tensors(MLP().seeded(SHAPE, CLASSES, 1))
    backwards = dict(reversed(tensors.items()))
    assert version_of(tensors) == version_of(backwards)
    backwards["1.bias"] = np.nextafter(backwards["1.bias"], np.float32(1))
    assert version_of(tensors) != version_of(backwards)
