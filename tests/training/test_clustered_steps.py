"""Steps at C(w) beside a twin that lets autograd find the gradients of centroids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedcomp.data.base import Samples
from fedcomp.errors import CodecError
from fedcomp.models import MODELS
from fedcomp.models.base import manifest_of
from fedcomp.training.clustered import ClusteredSteps, clustered_weights
from fedcomp.training.loop import train
from fedcomp.training.settings import TrainSettings

INPUTS = torch.linspace(-1, 1, 12).reshape(4, 3)
TARGETS = torch.tensor([0, 1, 1, 0])


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def nearest(weights: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    return (weights[..., None] - centroids).abs().argmin(-1)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_steps_are_those_of_autograd_through_a_look_up(
    optimizer: type[torch.optim.Optimizer],
) -> None:
    """Brute force: effective weights are looked up, w gets their gradient, μ what autograd says."""
    module, names = net(), ["0.weight", "2.weight"]
    with ClusteredSteps(module, names, 4) as steps:
        start = [c.detach().clone() for c in steps.centroids]
        both = optimizer([*module.parameters(), *steps.centroids], 0.1)  # type: ignore[call-arg]
        for _ in range(4):
            both.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(module(INPUTS), TARGETS))
            steps.before_step()
            both.step()
        moved = [c.detach().clone() for c in steps.centroids]

    values = {n: p.detach().clone().requires_grad_() for n, p in net().named_parameters()}
    centroids = {n: c.clone().requires_grad_() for n, c in zip(names, start, strict=True)}
    twin = optimizer([*values.values(), *centroids.values()], 0.1)  # type: ignore[call-arg]
    for _ in range(4):
        twin.zero_grad()
        seen = dict(values)
        for name, centroid in centroids.items():
            looked_up = centroid[nearest(values[name], centroid)]
            through = values[name] - values[name].detach()  # 0, with the gradient of w
            seen[name] = looked_up + through
        outputs = torch.func.functional_call(net(), seen, (INPUTS,))
        torch.autograd.backward(nn.functional.cross_entropy(outputs, TARGETS))
        twin.step()
    for name, centroid, found in zip(names, centroids.values(), moved, strict=True):
        torch.testing.assert_close(found, centroid.detach(), atol=2e-6, rtol=0)
        expected = centroid.detach()[nearest(values[name].detach(), centroid.detach())]
        torch.testing.assert_close(module.get_parameter(name), expected, atol=2e-6, rtol=0)
    for name in ("0.bias", "2.bias"):
        torch.testing.assert_close(module.get_parameter(name), values[name], atol=2e-6, rtol=0)


@given(st.integers(0, 999), st.integers(2, 12))
@settings(deadline=None, max_examples=20)
def test_a_layer_ends_with_at_most_so_many_values(seed: int, count: int) -> None:
    module = net()
    samples = Samples(
        np.random.default_rng(seed).normal(size=(20, 3)).astype(np.float32),
        np.arange(20) % 2,
    )
    chosen = TrainSettings(lr=0.3, epochs=2, batch_size=4)
    rng = np.random.default_rng(seed)
    with ClusteredSteps(module, ["0.weight", "2.weight"], count) as steps:
        train(
            module,
            samples,
            chosen,
            task="classification",
            lr=0.3,
            proximal_mu=0.0,
            rng=rng,
            before_step=steps.before_step,
            more=steps.centroids,
        )
    for name in ("0.weight", "2.weight"):
        assert len(module.get_parameter(name).unique()) <= count
    assert len(module.get_parameter("0.bias").unique()) == 8


def test_the_start_is_the_best_clustering_and_a_layer_of_few_weights_stays() -> None:
    module, before = net(), net()
    with ClusteredSteps(module, ["0.weight", "2.weight"], 16) as steps:
        assert len(steps.centroids) == 1
    assert torch.equal(module.get_parameter("2.weight"), before.get_parameter("2.weight"))
    given, found = (n.get_parameter("0.weight").detach().numpy().ravel() for n in (before, module))
    assert len(np.unique(found)) == 16
    even = np.linspace(given.min(), given.max(), 16)
    assert np.square(given - found).sum() < np.square(given[:, None] - even).min(axis=1).sum()
    for value in np.unique(found):
        assert given[found == value].mean() == pytest.approx(value, abs=1e-6)


def test_a_pass_without_a_step_sees_clusters_and_changes_nothing() -> None:
    module, before = net(), net().get_parameter("0.weight")
    with ClusteredSteps(module, ["0.weight"], 3) as steps:
        module(INPUTS)
        assert len(module.get_parameter("0.weight").unique()) == 3
        module(INPUTS)
        steps.before_step()
        assert torch.equal(module.get_parameter("0.weight"), before)


def test_any_layout_in_memory_is_clustered_alike() -> None:
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Conv2d(3, 6, 3))
    other = nn.Sequential(nn.Conv2d(3, 6, 3))
    other.load_state_dict(plain.state_dict())
    other.to(memory_format=torch.channels_last)
    inputs = torch.linspace(-1, 1, 2 * 3 * 5 * 5).reshape(2, 3, 5, 5)
    found = []
    for module in (plain, other):
        with ClusteredSteps(module, ["0.weight"], 4) as steps:
            torch.autograd.backward(module(inputs).square().sum())
            steps.before_step()
            found.append(steps.centroids[0].grad)
    assert found[0] is not None
    torch.testing.assert_close(*found)
    torch.testing.assert_close(plain.get_parameter("0.weight"), other.get_parameter("0.weight"))


def test_weights_that_are_not_finite_are_named() -> None:
    module = net()
    with torch.no_grad():
        module.get_parameter("2.weight")[0, 0] = torch.nan
    with pytest.raises(CodecError, match=r"tensor '2\.weight' holds values that are not finite"):
        ClusteredSteps(module, ["0.weight", "2.weight"], 3).__enter__()


@pytest.mark.parametrize(
    ("model", "which", "share"),
    [
        ("resnet20", "auto", 267_696),  # all but the last layer, as in the paper
        ("resnet20", "all", 267_696 + 640),
        ("small_cnn", "conv", 432 + 4608),
        ("small_cnn", "auto", 432 + 4608 + 64 * 2048 + 640),
    ],
)
def test_which_weights_become_clusters(model: str, which: str, share: int) -> None:
    module = MODELS.get(model)().seeded((3, 32, 32), 10, 0)
    manifest = manifest_of(module)
    names = clustered_weights(module, manifest, which)  # type: ignore[arg-type]
    assert sum(manifest.by_name[name].size for name in names) == share


def test_depthwise_kernels_are_left_out_but_not_those_of_one_channel() -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1, groups=2)
    )
    found = clustered_weights(module, manifest_of(module), "conv")
    assert found == ["0.weight", "2.weight"]
    assert clustered_weights(module[0], manifest_of(module[0]), "conv") == ["weight"]
