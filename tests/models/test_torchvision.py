from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fedcomp.config import compose_config
from fedcomp.errors import ConfigError, UnknownNameError
from fedcomp.models import MODELS
from fedcomp.models.base import manifest_of, read_tensors
from fedcomp.settings import parse
from tests.common import equal

IMAGE = (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mobilenet_v3_small", IMAGE),
        ("squeezenet1_1", IMAGE),
        ("shufflenet_v2_x0_5", IMAGE),
        ("googlenet", IMAGE),
        ("inception_v3", (3, 75, 75)),
        ("vit_b_32", IMAGE),
        ("swin_t", IMAGE),
        ("lraspp_mobilenet_v3_large", (3, 40, 32)),
    ],
)
def test_any_architecture_by_its_name(name: str, shape: tuple[int, ...]) -> None:
    settings = MODELS.get(name)()
    module = settings.build(shape, 5)
    expected = (2, 5, *shape[1:]) if name.startswith("lraspp") else (2, 5)
    logits = module(torch.rand(2, *shape))
    assert module.training
    assert logits.shape == expected
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert settings.name == name
    manifest_of(module).check(read_tensors(module))


def test_names_in_the_state_dict_are_torchvisions() -> None:
    from torchvision.models import get_model

    for name in ("googlenet", "lraspp_mobilenet_v3_large"):
        segmentation = {"weights_backbone": None} if name.startswith("lraspp") else {}
        options = segmentation or {"aux_logits": False, "init_weights": False}
        theirs = get_model(name, num_classes=5, **options).state_dict()
        assert list(MODELS.get(name)().build(IMAGE, 5).state_dict()) == list(theirs)


def test_the_architecture_is_a_setting() -> None:
    words = ["model=torchvision", "model.name=mobilenet_v3_small", "model.pretrained=true"]
    model = parse(compose_config(words)).model
    assert model == MODELS.get("mobilenet_v3_small")(pretrained=True)
    assert model != MODELS.get("squeezenet1_0")(pretrained=True)
    assert parse(compose_config(["model=torchvision"])).model.name == "resnet18"


def test_initial_values_follow_from_the_seed_alone() -> None:
    settings = MODELS.get("squeezenet1_1")()
    first = read_tensors(settings.seeded(IMAGE, 5, 1))
    torch.rand(3)
    assert equal(first, read_tensors(settings.seeded(IMAGE, 5, 1)))
    assert not equal(first, read_tensors(settings.seeded(IMAGE, 5, 2)))


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean mobilenet_v3_small\? Allowed: alex"):
        MODELS.get("mobilenetv3_small")
    with pytest.raises(UnknownNameError, match="did you mean vgg11s"):
        MODELS.get("vgg11ss")
    with pytest.raises(ConfigError) as error:
        compose_config(["model=torchvision", "model.name=resnet19", "rounds=0"])
    assert len(error.value.problems) == 2
    assert "model.name=resnet19: model 'resnet19' is unknown; did you mean" in str(error.value)
    assert "fasterrcnn" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fasterrcnn_resnet50_fpn", "finds boxes"),
        ("r3d_18", "takes clips"),
        ("raft_small", "takes pairs of images"),
        ("quantized_resnet18", "holds integers"),
    ],
)
def test_nets_for_other_tasks_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose_config(["model=torchvision", f"model.name={name}", "rounds=0"])
    text = rf"model.name={name}: torchvision's {name} {reason}"
    assert [problem.startswith(text) for problem in error.value.problems].count(True) == 1
    assert len(error.value.problems) == 2


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("resnet18", (1, 32, 32), r"3 channels, .*\(1, 32, 32\): choose dataset\.channels=3"),
        ("resnet18", (40,), r"choose dataset\.channels=3 or another model"),
        ("alexnet", IMAGE, r"model=alexnet cannot take .*\(3, 32, 32\) \(.*too small\): choose"),
        ("vgg16", (3, 31, 31), "cannot take"),
        ("vit_b_32", (3, 64, 32), "Wrong image width"),
        ("maxvit_t", IMAGE, "not divisible by partition size"),
    ],
)
def test_inputs_that_do_not_fit_are_explained(
    name: str, shape: tuple[int, ...], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        MODELS.get(name)().build(shape, 10)


def test_torchvision_loads_only_where_it_is_asked() -> None:
    code = (
        "import sys; from fedcomp.models import MODELS\n"
        "all(MODELS.get(name)().name == name or exit(1) for name in MODELS.names())\n"
        "print('torchvision' in sys.modules, 'torch' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == ["False", "False"]
