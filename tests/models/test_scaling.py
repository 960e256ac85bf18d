from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedcomp.models import MODELS
from fedcomp.models.base import load_tensors, manifest_of, read_tensors
from fedcomp.models.scaling import attach_scales, folded, scales_of
from fedcomp.models.selection import selected
from fedcomp.tensors import Kind

NAMES = [name for name in MODELS.names() if name not in ("vgg16", "alexnet_cifar", "lenet5")]
SHAPES = {"mlp": (1, 8, 8)}


def built(name: str) -> nn.Module:
    return MODELS.get(name)().seeded(SHAPES.get(name, (3, 32, 32)), 10, 1)


@pytest.mark.parametrize("name", NAMES)
def test_scales_of_one_change_nothing_and_fold_away(name: str) -> None:
    plain, scaled = built(name).eval(), built(name).eval()
    attach_scales(scaled)
    inputs = torch.randn(2, *SHAPES.get(name, (3, 32, 32)))
    with torch.no_grad():
        assert torch.equal(plain(inputs), scaled(inputs))
        for scale in scales_of(scaled).values():
            scale.uniform_(0.5, 1.5)
        expected = scaled(inputs)
        assert not torch.equal(plain(inputs), expected)
        tensors = folded(read_tensors(scaled))
        assert tensors.keys() == plain.state_dict().keys()
        load_tensors(plain, tensors)
        torch.testing.assert_close(plain(inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["vgg11s", "resnet20", "small_unet"])
def test_one_scale_for_each_output_and_none_for_norms(name: str) -> None:
    module = built(name)
    layers = [p for p in module.modules() if isinstance(p, nn.modules.conv._ConvNd | nn.Linear)]
    outputs = [p.out_features if isinstance(p, nn.Linear) else p.out_channels for p in layers]
    before = manifest_of(module)
    attach_scales(module)
    manifest = manifest_of(module)
    scales = [spec for spec in manifest.specs if spec.kind is Kind.SCALE]
    assert [spec.size for spec in scales] == outputs
    assert manifest.parameters == before.parameters + sum(outputs)
    others = [spec.kind for spec in manifest.specs if spec.kind is not Kind.SCALE]
    assert sorted(others) == sorted(spec.kind for spec in before.specs)


def test_the_head_takes_its_scale_and_bias_along() -> None:
    module = built("vgg11s")
    attach_scales(module)
    specs = selected(module, "head").specs
    assert [spec.kind for spec in specs] == [Kind.BIAS, Kind.WEIGHT, Kind.SCALE]
    assert [spec.shape for spec in specs] == [(10,), (10, 128), (10, 1)]


def test_a_scale_multiplies_its_filter() -> None:
    layer = nn.Conv2d(2, 3, 3)
    weight = layer.weight.detach().clone()
    attach_scales(layer)
    (scale,) = scales_of(nn.Sequential(layer)).values()
    with torch.no_grad():
        scale[1] = 4.0
    factors = torch.tensor([1.0, 4.0, 1.0]).reshape(3, 1, 1, 1)
    assert torch.equal(layer.weight, weight * factors)
    transposed = nn.ConvTranspose2d(2, 3, 3)
    attach_scales(transposed)
    (scale,) = scales_of(nn.Sequential(transposed)).values()
    assert scale.shape == (1, 3, 1, 1)
    assert np.array_equal(scale.detach().numpy(), np.ones((1, 3, 1, 1), np.float32))
