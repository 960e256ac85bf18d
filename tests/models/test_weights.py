from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights

from fedcomp.config import compose_config
from fedcomp.errors import ConfigError
from fedcomp.models import MODELS
from fedcomp.models.base import read_tensors
from fedcomp.models.weights import fill
from tests.common import equal

SHAPE, IMAGE = (1, 28, 28), (3, 32, 32)
SMALL = "shufflenet_v2_x0_5"


def start(weights: Path | str, outputs: int = 10, name: str = "lenet5") -> torch.nn.Module:
    shape = SHAPE if name == "lenet5" else IMAGE
    return MODELS.get(name)(weights=str(weights)).seeded(shape, outputs, 1)


@pytest.fixture
def trained() -> torch.nn.Module:
    return MODELS.get("lenet5")().seeded(SHAPE, 10, 7)


def test_files_of_all_forms(
    tmp_path: Path, trained: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = trained.state_dict()
    parallel = {f"module.{name}": value for name, value in state.items()}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "nested.pth")
    torch.save({"state_dict": parallel}, tmp_path / "parallel.pth")
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pt")
    monkeypatch.chdir(tmp_path)
    for name in ("a.safetensors", "a.pt", "nested.pth", "parallel.pth"):
        assert equal(read_tensors(start(name)), read_tensors(trained))
        assert equal(read_tensors(start(tmp_path / name)), read_tensors(trained))
    rounded = start("half.pt")
    assert rounded.classifier[1].weight.dtype is torch.float32
    assert torch.equal(rounded.classifier[1].weight, state["classifier.1.weight"].half().float())


def test_the_bare_architecture_needs_no_file() -> None:
    settings = MODELS.get("lenet5")(weights="nowhere.pt")
    module = settings.build(SHAPE, 10)
    with pytest.raises(ConfigError, match="does not exist"):
        settings.load_weights(module, 10)


def test_a_head_for_other_classes_starts_from_the_seed(
    tmp_path: Path, trained: torch.nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(trained.state_dict(), tmp_path / "a.pt")
    with caplog.at_level(logging.WARNING):
        module = start(tmp_path / "a.pt", outputs=4)
    assert "classifier.5.weight, classifier.5.bias start anew" in caplog.text
    fresh = MODELS.get("lenet5")().seeded(SHAPE, 4, 1)
    assert torch.equal(module.classifier[5].weight, fresh.classifier[5].weight)
    assert torch.equal(module.classifier[3].weight, trained.classifier[3].weight)


def test_all_layers_that_give_outputs_start_anew(caplog: pytest.LogCaptureFixture) -> None:
    settings = MODELS.get("lraspp_mobilenet_v3_large")()
    given = settings.seeded(IMAGE, 21, 1).state_dict()
    fill(settings.seeded(IMAGE, 5, 1), given, 5, "here")
    layers = ("low_classifier", "high_classifier")
    names = [f"classifier.{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    assert f"{', '.join(names)} start anew" in caplog.text


def test_a_stem_with_a_filter_for_each_class_is_no_head() -> None:
    module = MODELS.get("resnet20")().seeded(IMAGE, 16, 1)
    given = module.state_dict() | {"conv1.weight": torch.zeros(8, 3, 3, 3)}
    with pytest.raises(ConfigError, match=r"conv1\.weight \(given \(8, 3, 3, 3\), expected \(16, "):
        fill(module, given, 16, "here")


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e300])
def test_values_have_to_be_finite(value: float, tmp_path: Path, trained: torch.nn.Module) -> None:
    bias = torch.zeros(6, dtype=torch.float64)
    bias[3] = value
    torch.save({**trained.state_dict(), "features.0.bias": bias}, tmp_path / "a.pt")
    with pytest.raises(ConfigError) as error:
        start(tmp_path / "a.pt")
    assert str(error.value) == (
        f"model.weights={tmp_path / 'a.pt'}: features.0.bias holds values that are not finite, and"
        " training cannot start there: choose weights of a run that did not diverge"
    )


def test_counters_may_be_missing(tmp_path: Path) -> None:
    source = MODELS.get("resnet20")().seeded(IMAGE, 10, 7)
    state = {n: v for n, v in source.state_dict().items() if v.is_floating_point()}
    torch.save(state, tmp_path / "a.pt")
    assert equal(read_tensors(start(tmp_path / "a.pt", name="resnet20")), read_tensors(source))


def test_weights_of_another_architecture_are_refused(
    tmp_path: Path, trained: torch.nn.Module
) -> None:
    state = trained.state_dict()
    del state["features.0.bias"]
    state["classifier.1.weight"] = torch.zeros(7, 5)
    state["extra"] = torch.zeros(())
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ConfigError) as error:
        start(tmp_path / "a.pt")
    assert str(error.value).endswith(
        "3 of the tensors do not fit the model: features.0.bias (given nothing, expected (6,)),"
        " classifier.1.weight (given (7, 5), expected (120, 400)), extra (given (), expected"
        " nothing): choose weights of this architecture"
    )
    with pytest.raises(ConfigError, match=r": choose") as error:
        start(tmp_path / "a.pt", name="resnet20")
    assert str(error.value).count("expected") == 5
    assert " more: choose" in str(error.value)


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("code of a weights file was run",))


def damaged(folder: Path, state: dict[str, torch.Tensor]) -> dict[str, str]:
    """Write files that cannot be used; return what is said about each."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    whole = buffer.getvalue()
    (folder / "torn.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.pt").write_bytes(b"")
    (folder / "text.pt").write_bytes(b"hello")
    (folder / "text.safetensors").write_bytes(b"hello")
    (folder / "code.pt").write_bytes(pickle.dumps({"a": Bomb()}))
    torch.save(Bomb(), folder / "zipped_code.pt")
    torch.save([1, 2], folder / "list.pt")
    torch.save({"state_dict": {}}, folder / "none.pt")
    torch.save({"a": 1}, folder / "numbers.pt")
    torch.save({1: torch.zeros(2)}, folder / "unnamed.pt")
    torch.save({**state, "features.0.bias": torch.zeros(6, device="meta")}, folder / "meta.pt")
    (folder / "folder.pt").mkdir()
    more = dict.fromkeys(("torn.pt", "empty.pt", "text.pt", "text.safetensors"), "is damaged")
    more |= dict.fromkeys(("code.pt", "zipped_code.pt"), "is damaged, or holds more than tensors")
    more |= dict.fromkeys(("list.pt", "none.pt", "numbers.pt", "unnamed.pt"), "no state dict")
    return more | {
        "meta.pt": "features.0.bias cannot be copied",
        "folder.pt": "is a folder: name a file",
        "nowhere.pt": "does not exist: name a file",
    }


def test_files_that_cannot_be_used(tmp_path: Path, trained: torch.nn.Module) -> None:
    for name, expected in damaged(tmp_path, trained.state_dict()).items():
        with pytest.raises(ConfigError, match=expected) as error:
            start(tmp_path / name)
        assert str(error.value).startswith(f"model.weights={tmp_path / name}: "), name
        assert "\n" not in str(error.value)


def test_one_start_at_most() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        compose_config(["model=resnet18", "model.pretrained=true", "model.weights=a.pt"])
    with pytest.raises(ConfigError, match=r"lenet5 has no published weights: choose model\.weig"):
        MODELS.get("lenet5")(pretrained=True).seeded(SHAPE, 10, 1)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which torch looks for downloads, with no way to fill it."""

    def fail(*args: object, **kwargs: object) -> None:
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    return tmp_path / "hub" / "checkpoints"


def test_published_weights_come_from_the_cache(
    offline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published = get_model(SMALL)
    offline.mkdir(parents=True)
    file = Path(get_model_weights(SMALL)["DEFAULT"].url).name
    torch.save(published.state_dict(), offline / file)
    settings = MODELS.get(SMALL)(pretrained=True)
    module = settings.seeded(IMAGE, 4, 1)
    assert "fc.weight, fc.bias start anew" in caplog.text
    assert torch.equal(module.fc.weight, MODELS.get(SMALL)().seeded(IMAGE, 4, 1).fc.weight)
    expected, found = read_tensors(published), read_tensors(module)
    for name in ("fc.weight", "fc.bias"):
        del expected[name], found[name]
    assert equal(found, expected)
    assert equal(read_tensors(module), read_tensors(settings.seeded(IMAGE, 4, 1)))

    (offline / file).write_bytes(b"torn")
    with pytest.raises(ConfigError, match=rf"{file} cannot be read .*: delete the file"):
        settings.seeded(IMAGE, 4, 1)


def test_published_auxiliary_heads_are_left_out(offline: Path) -> None:
    published = get_model("googlenet", aux_logits=True, init_weights=False)
    offline.mkdir(parents=True)
    file = Path(get_model_weights("googlenet")["DEFAULT"].url).name
    torch.save(published.state_dict(), offline / file)
    module = MODELS.get("googlenet")(pretrained=True).seeded(IMAGE, 1000, 1)
    assert torch.equal(module.fc.weight, published.fc.weight)
    assert module.transform_input


def test_without_a_connection_the_way_out_is_named(offline: Path) -> None:
    with pytest.raises(ConfigError) as error:
        MODELS.get(SMALL)(pretrained=True).seeded(IMAGE, 4, 1)
    text = str(error.value)
    for part in (SMALL, "no route", "connect it once", str(offline), "model.weights=<file>"):
        assert part in text
    assert "http" not in text
