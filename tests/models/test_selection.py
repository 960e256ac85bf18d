from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from fedcomp.config import compose_config
from fedcomp.data.base import Samples
from fedcomp.errors import ConfigError
from fedcomp.models import MODELS
from fedcomp.models.base import load_tensors, manifest_of, read_tensors
from fedcomp.models.scaling import attach_scales
from fedcomp.models.selection import freeze, head_of, selected
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.tensors import Kind
from fedcomp.training.loop import train
from fedcomp.training.settings import TrainSettings
from tests.common import QUICK, equal, read_csv, run_inline


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()),
            *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
            *(nn.Flatten(), nn.BatchNorm1d(64, affine=False), nn.Linear(64, 3)),
        )


NORM = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
PLAIN = [f"7.{name}" for name in NORM[2:]]
"""A norm without parameters: training changes it whatever is chosen."""


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("head", [*PLAIN, "8.weight", "8.bias"]),
        ("last_1", [*PLAIN, "8.weight", "8.bias"]),
        (
            "last_2",
            ["3.weight", "3.bias", *(f"4.{n}" for n in NORM), *PLAIN, "8.weight", "8.bias"],
        ),
        (r"^1\.", [*(f"1.{name}" for name in NORM), *PLAIN]),
    ],
)
def test_layers_are_chosen_with_their_buffers(wanted: str, names: list[str]) -> None:
    assert [spec.name for spec in selected(net(), wanted).specs] == names


COLOUR = (3, 32, 32)
LRASPP = ["classifier.low_classifier", "classifier.high_classifier"]


@pytest.mark.parametrize(
    ("name", "outputs", "layers"),
    [
        ("lraspp_mobilenet_v3_large", 21, LRASPP),
        ("lraspp_mobilenet_v3_large", 128, LRASPP),  # as many as its hidden convolution
        ("deeplabv3_mobilenet_v3_large", 256, ["classifier.4"]),
        ("resnet18", 64, ["fc"]),  # as many as its stem
        ("squeezenet1_1", 64, ["classifier.1"]),
        ("mobilenet_v3_small", 1024, ["classifier.3"]),
        ("swin_t", 96, ["head"]),
        ("vit_b_32", 768, ["heads.head"]),
        ("resnet20", 16, ["fc"]),
        ("vgg11s", 128, ["classifier.5"]),
        ("mlp", 64, ["5"]),
        ("small_cnn", 64, ["9"]),
        ("small_unet", 8, ["head"]),
        ("ds_cnn", 64, ["classifier.1"]),  # as many as its hidden convolutions
    ],
)
def test_the_head_is_all_that_gives_outputs(name: str, outputs: int, layers: list[str]) -> None:
    module = MODELS.get(name)().build(COLOUR, outputs)
    expected = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    assert head_of(module) == expected
    assert set(selected(module, "head").by_name) >= expected


def test_a_layer_of_another_width_beside_the_last_is_no_head() -> None:
    part = nn.ModuleDict({"hidden": nn.Linear(4, 8), "last": nn.Linear(8, 3)})
    assert head_of(nn.Sequential(part)) == {"0.last.weight", "0.last.bias"}


def test_layers_of_a_head_take_their_scales_along() -> None:
    module = MODELS.get("lraspp_mobilenet_v3_large")().build(COLOUR, 5)
    attach_scales(module)
    scales = [spec.name for spec in selected(module, "head").specs if spec.kind is Kind.SCALE]
    assert [name.partition(".parametrizations.")[0] for name in scales] == LRASPP


def test_without_weights_the_head_is_everything() -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    assert selected(module, "head") == manifest_of(module)


def test_names_match_anywhere() -> None:
    assert [spec.name for spec in selected(nn.Sequential(nn.Linear(2, 2)), "bias").specs] == [
        "0.bias"
    ]


def test_what_has_two_names_is_trained_under_either() -> None:
    module = nn.ModuleDict({name: nn.Linear(3, 3) for name in ("first", "again")})
    module["again"].weight = module["first"].weight
    for name in module:
        freeze(module, selected(module, rf"^{name}\."))
        trained = {n for n, value in module.named_parameters() if value.requires_grad}
        assert trained == {"first.weight", f"{name}.bias"}
    norm = nn.BatchNorm1d(3)
    shared = nn.ModuleDict({"a": norm, "b": norm, "c": nn.Linear(3, 3)})
    assert list(selected(shared, "^b").by_name) == [f"b.{name}" for name in NORM]


def test_all_is_all() -> None:
    for wanted in ("all", ".", "last_3", "last_99"):
        assert selected(net(), wanted) == manifest_of(net())


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (
            "classifier",
            "matches no parameter; allowed are all, head, last_<n>.* 0.weight, 3",
        ),
        ("running_mean", "matches no parameter"),
        ("last_0", "matches no parameter"),
        ("(", "is no regular expression: missing \\)"),
    ],
)
def test_a_choice_of_nothing_is_explained(wanted: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        selected(net(), wanted)


@pytest.mark.parametrize("wanted", ["head", "last_2", r"^1\.", "all"])
def test_training_changes_what_was_chosen_and_nothing_else(wanted: str) -> None:
    module = net()
    chosen = selected(module, wanted)
    freeze(module, chosen)
    before = read_tensors(module)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(20, 1, 8, 8)).astype(np.float32)
    data = Samples(inputs, rng.integers(0, 3, 20))
    settings = TrainSettings(device="cpu", epochs=2, weight_decay=0.1)
    train(module, data, settings, task="classification", lr=0.1, proximal_mu=0.1, rng=rng)
    after = read_tensors(module)
    changed = [name for name, value in after.items() if not np.array_equal(value, before[name])]
    assert changed == [spec.name for spec in chosen.specs]


def test_only_what_is_trained_costs_bytes(tmp_path: Path) -> None:
    words = ["train.parameters=head", "codec@uplink=none", "codec@downlink=none"]
    run = run_inline(tmp_path, *words, "link.verify=true")
    setup = Setup(parse(compose_config([*QUICK, "train.parameters=head"])))
    size = sum(4 * spec.size for spec in setup.manifest.specs)
    sent = [row for row in read_csv(run / "packets.csv") if row["kind"] == "absolute"]
    assert {int(row["payload_bytes"]) for row in sent} == {size + 1}
    model = load_file(run / "model.safetensors")
    full = setup.settings.model.seeded((1, 8, 8), 10, 0)
    assert sorted(model) == sorted(full.state_dict())
    load_tensors(full, model)
    whole = Setup(parse(compose_config(QUICK))).initial
    differing = {name for name in model if not np.array_equal(model[name], whole[name])}
    assert differing == set(setup.manifest.by_name)


def test_ends_with_other_frozen_weights_do_not_understand_each_other() -> None:
    setup = Setup(parse(compose_config(["train.parameters=head"])))
    digest = setup.session("run").digest
    assert Setup(setup.settings).session("run").digest == digest
    other = Setup(setup.settings)
    with torch.no_grad():
        next(iter(other.module.parameters())).add_(1)
    assert other.session("run").digest != digest
    assert equal(other.initial, setup.initial)


def test_a_client_without_the_weights_gets_the_model(tmp_path: Path) -> None:
    """Its version 0 is another one, so that a keyframe goes; the server needs the file."""
    file = tmp_path / "start.safetensors"
    config = compose_config([*QUICK, f"model.weights={file}"])
    start = {n: v + 1 for n, v in Setup(parse(compose_config(QUICK))).initial.items()}
    save_file(start, file)
    server = Setup(parse(config))
    assert equal(server.initial, start)
    file.unlink()
    client = Setup(parse(config), needs_weights=False)
    assert not equal(client.initial, start)
    assert client.manifest == server.manifest
    assert client.session("run").digest == server.session("run").digest
    with pytest.raises(ConfigError, match=r"start\.safetensors does not exist"):
        _ = Setup(parse(config)).module


def test_names_are_those_of_the_plain_net_with_and_without_scale_factors() -> None:
    for method in ("fedavg", "fsfl"):
        words = [*QUICK, f"method={method}", r"train.parameters=3\.weight"]
        specs = Setup(parse(compose_config(words))).manifest.specs
        assert {spec.name.split(".")[0] for spec in specs} == {"3"}
        assert [spec.kind for spec in specs if spec.kind is not Kind.SCALE] == [Kind.WEIGHT]
