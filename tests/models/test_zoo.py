from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from fedcomp.errors import ConfigError
from fedcomp.models import MODELS
from fedcomp.models.base import load_tensors, manifest_of, read_tensors
from fedcomp.models.ds_cnn import DSCNN
from tests.common import equal

DIGIT, GRAY, COLOUR, WORD = (1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 40, 49)
PUBLISHED = [
    ("mlp", DIGIT, 10, 17_226),
    ("small_cnn", DIGIT, 10, 13_706),
    ("lenet5", GRAY, 10, 61_706),
    ("cossgd_cnn", COLOUR, 10, 122_570),
    ("vgg11s", COLOUR, 10, 865_482),
    ("vgg11_cifar", COLOUR, 10, 9_750_922),
    ("vgg16_cifar", COLOUR, 10, 15_245_130),
    ("alexnet_cifar", COLOUR, 10, 23_272_266),
    ("resnet20", COLOUR, 10, 269_722),
    ("resnet56", COLOUR, 10, 853_018),
    ("resnet18_cifar", COLOUR, 100, 11_220_132),
    ("resnet50_cifar", COLOUR, 100, 23_705_252),
    ("small_unet", COLOUR, 21, 486_733),
    ("ds_cnn", WORD, 10, 23_050),
    ("resnet18", COLOUR, 1000, 11_689_512),
    ("resnet34", COLOUR, 1000, 21_797_672),
    ("resnet50", COLOUR, 1000, 25_557_032),
    ("mobilenet_v2", COLOUR, 1000, 3_504_872),
    ("vgg16", COLOUR, 1000, 138_357_544),
]
LIGHT = [row[:3] for row in PUBLISHED if row[3] < 1_000_000]


def test_every_model_is_in_the_table() -> None:
    assert sorted(row[0] for row in PUBLISHED) == MODELS.names()


@pytest.mark.parametrize(("name", "shape", "outputs", "count"), PUBLISHED)
def test_parameter_counts_training_and_round_trip(
    name: str, shape: tuple[int, ...], outputs: int, count: int
) -> None:
    module = MODELS.get(name)().build(shape, outputs)
    manifest = manifest_of(module)
    assert manifest.parameters == count == sum(p.numel() for p in module.parameters())

    logits = module(torch.rand(2, *shape))
    assert logits.shape == ((2, outputs, *shape[1:]) if name == "small_unet" else (2, outputs))
    logits.square().mean().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        parameter.grad = None

    tensors = read_tensors(module)
    manifest.check(tensors)
    assert list(tensors) == list(manifest.by_name)
    with torch.no_grad():
        for value in module.state_dict().values():
            value.zero_()
    load_tensors(module, tensors)
    assert equal(read_tensors(module), tensors)


@pytest.mark.parametrize(("name", "shape", "outputs"), LIGHT)
def test_initial_values_follow_from_the_seed_alone(
    name: str, shape: tuple[int, ...], outputs: int
) -> None:
    settings = MODELS.get(name)()
    state = torch.random.get_rng_state()
    first = read_tensors(settings.seeded(shape, outputs, 5))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert equal(first, read_tensors(settings.seeded(shape, outputs, 5)))
    assert not equal(first, read_tensors(settings.seeded(shape, outputs, 6)))


def test_resnet20_stores_the_published_number_of_values() -> None:
    manifest = manifest_of(MODELS.get("resnet20")().build(COLOUR, 10))
    counters = sum(spec.dtype == "int64" for spec in manifest.specs)
    assert manifest.elements - counters == 271_098


@pytest.mark.parametrize("name", ["vgg11s", "vgg11_cifar", "vgg16_cifar"])
def test_vgg_by_hand_and_with_batch_norm(name: str) -> None:
    widths = [width for block in MODELS.get(name).blocks for width in block]  # type: ignore[attr-defined]
    last = widths[-1]
    convolutions = sum(9 * inner * outer + outer for inner, outer in pairwise([3, *widths]))
    expected = convolutions + 2 * (last * last + last) + 10 * last + 10
    normed = MODELS.get(name)(batch_norm=True).build(COLOUR, 10)  # type: ignore[call-arg]
    assert manifest_of(normed).parameters == expected + 2 * sum(widths)


@pytest.mark.parametrize(("width", "blocks"), [(64, 4), (8, 1)])
def test_ds_cnn_by_hand(width: int, blocks: int) -> None:
    module = DSCNN(width=width, blocks=blocks).build((1, 10, 49), 12)
    convolutions = 10 * 4 * width + blocks * (9 * width + width**2)
    layers = 1 + 2 * blocks
    expected = convolutions + layers * 2 * width + 12 * width + 12
    assert manifest_of(module).parameters == expected
    kinds = [type(part).__name__ for part in module.features]
    assert kinds == ["ZeroPad2d", *["Conv2d", "BatchNorm2d", "ReLU"] * layers, "AdaptiveAvgPool2d"]


def test_ds_cnn_has_the_sizes_of_its_references() -> None:
    """On 49 frames of 10 coefficients with 12 classes.

    MLPerf Tiny's net has 23,756 parameters, biases of the convolutions among them. The paper's
    38.6 KB are a byte for each weight and bias, norms folded in, and for each value of two maps of
    features, the input and the output of a layer.
    """
    module = DSCNN().build((1, 10, 49), 12)
    norms = [part for part in module.features if isinstance(part, torch.nn.BatchNorm2d)]
    biases = sum(part.num_features for part in norms)
    assert biases == 576
    count = manifest_of(module).parameters
    assert count + biases == 23_756
    maps = module.features[:-1](torch.rand(1, 1, 10, 49))
    assert maps.shape == (1, 64, 5, 25)
    assert count - biases + 2 * maps.numel() == 38_604  # a norm of 2 values becomes a bias of 1


@pytest.mark.parametrize(("bands", "frames"), [(10, 49), (40, 34), (9, 8)])
def test_ds_cnn_pads_as_its_references(bands: int, frames: int) -> None:
    """TensorFlow's `same`: ⌈n/2⌉ steps of 2, so 2·⌈n/2⌉ - 2 + k - n more, the odd one last."""
    expected = []
    for size, kernel in ((frames, 10), (bands, 4)):
        more = 2 * -(-size // 2) - 2 + kernel - size
        expected += [more // 2, more - more // 2]
    module = DSCNN().build((1, bands, frames), 12)
    assert list(module.features[0].padding) == expected


def test_ds_cnn_hears_ten_frames_of_four_bands() -> None:
    """Of an impulse, the first convolution answers where its window, in steps of 2, covers it."""
    module = DSCNN(width=1, blocks=1).build(WORD, 4)
    torch.nn.init.ones_(module.features[1].weight)
    impulse = torch.zeros(1, *WORD)
    impulse[0, 0, 20, 24] = 1
    answer = module.features[:2](impulse)[0, 0]
    rows, columns = answer.nonzero(as_tuple=True)
    assert set(rows.tolist()) == {9, 10}
    assert set(columns.tolist()) == {10, 11, 12, 13, 14}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("lenet5", (3, 12, 12)),
        ("lenet5", (1, 40, 98)),
        ("cossgd_cnn", (1, 18, 28)),
        ("vgg11s", DIGIT),
        ("vgg11s", GRAY),
        ("vgg11s", (3, 64, 40)),
        ("alexnet_cifar", (1, 15, 28)),
        ("resnet20", (1, 40, 9)),
        ("resnet18_cifar", (1, 9, 8)),
        ("small_unet", (1, 16, 48)),
        ("ds_cnn", (1, 8, 8)),
        ("ds_cnn", (3, 41, 98)),
    ],
)
def test_other_sizes_and_channels(name: str, shape: tuple[int, ...]) -> None:
    module = MODELS.get(name)().build(shape, 4)
    assert module(torch.rand(2, *shape)).shape[:2] == (2, 4)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 20, 24)])
def test_pooling_upwards_changes_nothing_up_to_the_published_size(shape: tuple[int, ...]) -> None:
    module = MODELS.get("vgg11s")().build(shape, 4)
    images = torch.rand(1, *shape)
    pooled = module.features[:-1](images)
    assert pooled.shape == (1, 128, 1, 1)
    assert torch.equal(module.features(images), pooled)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("small_cnn", (40,), r"at least 4 x 4 pixels.*shape \(40,\): choose model=mlp"),
        ("lenet5", (1, 11, 28), r"model=lenet5 takes images of at least 12 x 12"),
        ("cossgd_cnn", (3, 17, 17), "at least 18 x 18"),
        ("alexnet_cifar", (3, 14, 32), "at least 15 x 15"),
        ("ds_cnn", (1, 40, 7), "model=ds_cnn takes images of at least 8 x 8"),
        ("vgg11s", (40,), "model=vgg11s takes images"),
        ("resnet20", (40,), "model=resnet20 takes images"),
        ("resnet50_cifar", (40,), "model=resnet50_cifar takes images"),
        ("small_unet", (3, 32, 40), r"multiples of 16, .*\(3, 32, 40\): choose another size"),
    ],
)
def test_inputs_that_do_not_fit_are_explained(
    name: str, shape: tuple[int, ...], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        MODELS.get(name)().build(shape, 10)


def test_a_residual_block_begins_as_its_shortcut() -> None:
    from fedcomp.models.resnet_cifar_module import BasicBlock

    block = BasicBlock(2, 6, 2)
    torch.nn.init.zeros_(block.bn2.weight)
    inputs = torch.rand(1, 2, 5, 5)
    outputs = block(inputs).detach().numpy()
    assert np.array_equal(outputs[:, 2:4], inputs[:, :, ::2, ::2].numpy())
    assert not outputs[:, [0, 1, 4, 5]].any()


def test_convolutions_start_normal_with_the_fan_out() -> None:
    """Var w = 2 / (k² · filters); a normal distribution has E w⁴ = 3 (Var w)²."""
    module = MODELS.get("vgg11s")().seeded(COLOUR, 10, 1)
    convolutions = [part for part in module.features if isinstance(part, torch.nn.Conv2d)]
    layer = convolutions[1]
    weight = layer.weight.detach()
    assert weight.shape == (64, 32, 3, 3)
    assert weight.mean().item() == pytest.approx(0, abs=0.002)
    assert weight.var().item() == pytest.approx(2 / (9 * 64), rel=0.05)
    assert weight.pow(4).mean().item() == pytest.approx(3 * (2 / (9 * 64)) ** 2, rel=0.1)
    assert not any(part.bias.any() for part in convolutions)


@pytest.mark.parametrize("name", ["vgg11s", "vgg16_cifar"])
def test_vgg_takes_the_largest_of_four_after_each_block(name: str) -> None:
    settings = MODELS.get(name)()
    features = settings.build(COLOUR, 10).features
    kinds = [type(part).__name__ for part in features]
    expected = []
    for block in settings.blocks:  # type: ignore[attr-defined]
        expected += ["Conv2d", "ReLU"] * len(block) + ["MaxPool2d"]
    assert kinds == [*expected, "AdaptiveAvgPool2d"]
    pool = features[kinds.index("MaxPool2d")]
    assert pool(torch.tensor([[[1.0, 2, 9], [3, 4, 5]]])).tolist() == [[[4, 9]]]
