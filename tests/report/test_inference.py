from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file, save_file
from torch import nn

from fedcomp.config import as_yaml, compose_config, stored_group
from fedcomp.errors import DataError
from fedcomp.report.cli import main
from fedcomp.report.comparison import inference, sparse_layers
from fedcomp.report.comparison.sparse_layers import (
    SparseConv2d,
    SparseLinear,
    csr_bytes,
    with_twins,
)
from fedcomp.report.runs import find_folders
from fedcomp.report.summary import closing
from tests.common import QUICK, read_summary, run_inline

BRIEF = (*QUICK[:-2], "model=small_cnn", "rounds=1", "clients=2")


def pruned(layer: nn.Linear | nn.Conv2d, share: float = 0.9, seed: int = 0) -> Any:
    """Draw a layer's values, of which every third row and a share of the rest are zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        layer.weight[torch.rand(layer.weight.shape, generator=generator) < share] = 0
        layer.weight[::3] = 0
    return layer


def close(left: nn.Module, right: nn.Module, *shape: int) -> bool:
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = left(inputs), right(inputs)
    assert expected.shape == found.shape
    return bool(((expected - found).abs() <= 1e-5 * expected.abs().max()).all())


def brute_force(path: Path) -> tuple[float, dict[str, float]]:
    """Count zeros one by one in a saved model whose matrices are all weights."""
    counts = {
        name: (sum(x == 0 for x in value.ravel().tolist()), value.size)
        for name, value in load_file(path).items()
        if value.ndim > 1 and value.dtype.kind == "f"
    }
    zero, size = (sum(column) for column in zip(*counts.values(), strict=True))
    return zero / size, {name: zero / size for name, (zero, size) in counts.items() if zero}


def sparse_run(folder: Path, *overrides: str) -> Path:
    """Make a run as the command makes it, and leave of its model's weights one in ten."""
    run_inline(folder, *overrides, quick=BRIEF)
    (folder / ".hydra").mkdir()
    config = as_yaml(compose_config([*BRIEF, *overrides]))
    (folder / ".hydra" / "config.yaml").write_text(config)
    tensors = load_file(folder / "model.safetensors")
    rng = np.random.default_rng(5)
    for value in tensors.values():
        if value.ndim > 1:
            value[rng.random(value.shape) < 0.9] = 0
    save_file(tensors, folder / "model.safetensors")
    whole, layers = brute_force(folder / "model.safetensors")
    change_summary(folder, model_sparsity=whole, layer_sparsity=layers)
    return folder


def change_summary(folder: Path, **changes: Any) -> None:
    """Rewrite a summary; None takes a key away."""
    summary = {**read_summary(folder), **changes}
    kept = {key: value for key, value in summary.items() if value is not None}
    (folder / "summary.json").write_text(json.dumps(kept))


def shown(capsys: pytest.CaptureFixture[str], *folders: Path) -> str:
    main(["--runs", *map(str, folders)])
    return capsys.readouterr().out


@pytest.mark.parametrize("method", ["fedavg", "fsfl"])
def test_a_summary_counts_the_zeros_of_the_saved_model(method: str, tmp_path: Path) -> None:
    down = ("codec@downlink=uniform", "downlink.mode=absolute", "downlink.bits=2")
    summary = read_summary(run_inline(tmp_path, f"method={method}", *down, quick=BRIEF))
    whole, layers = brute_force(tmp_path / "model.safetensors")
    assert 0 < whole < 1
    assert (summary["model_sparsity"], summary["layer_sparsity"]) == (whole, layers)
    assert (summary["input_shape"], summary["outputs"]) == ([1, 8, 8], 10)


def test_a_dense_model_has_no_zeros(tmp_path: Path) -> None:
    summary = read_summary(run_inline(tmp_path))
    assert brute_force(tmp_path / "model.safetensors") == (0.0, {})
    assert (summary["model_sparsity"], summary["layer_sparsity"]) == (0.0, {})
    assert "zeros" not in text_of(tmp_path)


def test_the_closing_table_tells_the_sparsest_layer(tmp_path: Path) -> None:
    run_inline(tmp_path)
    change_summary(tmp_path, model_sparsity=0.95, layer_sparsity={"b": 0.972, "c": 0.9, "a": 0.601})
    assert "95.0 % of the weights; where any: least a 60.1 %, most b 97.2 %" in text_of(tmp_path)
    change_summary(tmp_path, model_sparsity=0.02, layer_sparsity={"b": 0.1})
    assert "2.0 % of the weights; where any: b 10.0 %" in text_of(tmp_path)
    change_summary(tmp_path, model_sparsity=0.01)
    assert "zeros" not in text_of(tmp_path)


def text_of(run: Path) -> str:
    out = Console(file=io.StringIO(), width=120)
    out.print(closing(run))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.95, 1.0])
def test_a_sparse_linear_layer_is_the_dense_one(bias: bool, share: float) -> None:
    layer = pruned(nn.Linear(40, 17, bias=bias), share)
    for shape in ((1, 40), (5, 40), (2, 3, 40)):
        assert close(layer, SparseLinear(layer), *shape)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3},
        {"kernel_size": 1},
        {"kernel_size": (3, 5), "padding": (1, 2), "bias": False},
        {"kernel_size": 5, "stride": (2, 3), "padding": 2},
        {"kernel_size": (2, 3), "dilation": (3, 2), "padding": (0, 3), "stride": 2, "bias": False},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": (4, 3), "dilation": (2, 1), "padding": "same"},
    ],
)
@pytest.mark.parametrize("cached", [1, 5000, sparse_layers._CACHED])
def test_a_sparse_convolution_is_the_dense_one(
    settings: dict[str, Any], cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_layers, "_CACHED", cached)
    for share in (0.0, 0.95, 1.0):
        layer = pruned(nn.Conv2d(4, 7, **settings), share)
        for batch in (1, 5):
            assert close(layer, SparseConv2d(layer), batch, 4, 11, 13)


def test_sparse_rows_are_counted_as_torch_stores_them() -> None:
    layer = pruned(nn.Conv2d(4, 7, 3))
    held = SparseConv2d(layer)._weight
    parts = (held.values(), held.crow_indices(), held.col_indices())
    assert csr_bytes(layer.weight) == sum(part.nbytes for part in parts)
    assert held.crow_indices().dtype == held.col_indices().dtype == torch.int32


class Doubled(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(inputs)


def test_layers_that_cannot_be_sparse_stay() -> None:
    net = nn.Sequential(
        pruned(nn.Conv2d(4, 4, 3, groups=2)),
        pruned(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
        pruned(nn.Conv2d(4, 4, 4, padding="same")),  # one zero more below and to the right
        nn.Flatten(),
        nn.Linear(144, 10),
        pruned(Doubled(10, 10)),
    )
    assert sparse_layers.sparse_layers(net) == {}
    with pytest.raises(DataError, match="no Linear or Conv2d layer takes fewer bytes"):
        inference.measure(net, (4, 8, 8))


def test_twins_stand_wherever_a_layer_stood_and_the_rest_is_shared() -> None:
    twice = pruned(nn.Linear(20, 20))
    net = nn.Sequential(
        twice, nn.ReLU(), nn.Sequential(twice, nn.BatchNorm1d(20)), pruned(nn.Linear(20, 3))
    )
    net.eval()
    twins = sparse_layers.sparse_layers(net)
    sparse = with_twins(net, twins)
    assert (
        sum(
            isinstance(part, SparseLinear)
            for _, part in sparse.named_modules(remove_duplicate=False)
        )
        == 3
    )
    assert close(net, sparse, 6, 20)
    assert sparse.get_parameter("2.1.weight") is net.get_parameter("2.1.weight")
    assert sparse_layers.sparse_layers(net).keys() == twins.keys()
    assert with_twins(twice, twins) is twins[twice]


@pytest.mark.parametrize("faster", [(), (1,), (0, 2), (0, 1, 2)])
def test_the_best_net_has_the_twins_that_were_faster(
    faster: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = (30, 28, 26, 24)
    net = nn.Sequential(*(pruned(nn.Linear(a, b), seed=a) for a, b in pairwise(widths)))
    ran: list[int] = []
    forward = SparseLinear.forward

    def counted(self: SparseLinear, inputs: torch.Tensor) -> torch.Tensor:
        ran.append(widths.index(inputs.shape[1]))
        return forward(self, inputs)

    def in_turns(works: Sequence[Any], seconds: float) -> list[float]:
        traces = []
        for work in works:
            ran.clear()
            work()
            traces.append(tuple(ran))
        seen.append(traces)
        if len(seen) <= 3:
            return [2.0, 1.0 if traces[1][0] in faster else 3.0]
        return [5.0, 4.0, 3.0][: len(works)]

    seen: list[list[tuple[int, ...]]] = []
    monkeypatch.setattr(SparseLinear, "forward", counted)
    monkeypatch.setattr(inference, "in_turns", in_turns)
    (timing,) = inference.measure(net, (30,), (2,)).timings
    assert seen[:3] == [[(), (at,)] for at in range(3)]
    mixed = 0 < len(faster) < 3
    assert seen[3] == [(), (0, 1, 2), *([faster] if mixed else [])]
    best = 3.0 if mixed else 4.0 if faster else 5.0
    assert timing == inference.Timing(2, 5.0, 4.0, best, len(faster))


def test_works_are_done_in_turns_after_a_warm_up() -> None:
    order: list[str] = []
    times = inference.in_turns([lambda: order.append("a"), lambda: order.append("b")], 0.0)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert all(0 <= value < 0.1 for value in times)


@pytest.mark.parametrize("wrong", [0.5, float("nan")])
def test_outputs_that_differ_are_refused(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(pruned(nn.Linear(20, 20)))
    monkeypatch.setattr(sparse_layers, "_column", lambda layer: torch.full((20, 1), wrong))
    with pytest.raises(DataError, match="outputs differ"):
        inference.measure(net, (20,), (2,))


@pytest.mark.parametrize("method", ["fedavg", "fsfl"])
def test_the_command_times_sparse_models(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "_SECONDS", 0.01)
    run = sparse_run(tmp_path, f"method={method}")
    tensors = load_file(run / "model.safetensors")
    module = inference.load_model(run, read_summary(run))
    assert {n: v.numpy().tobytes() for n, v in module.state_dict().items()} == {
        n: v.tobytes() for n, v in tensors.items()
    }
    text = shown(capsys, run)
    weights = [value for value in tensors.values() if value.ndim > 1]
    dense = sum(4 * value.size for value in weights)
    rows = sum(8 * np.count_nonzero(value) + 4 * (len(value) + 1) for value in weights)
    assert f"{dense / rows:.2f} × smaller" in text
    found = re.findall(r"^ +(\d+) +(\S+) ms +(\S+) ms, (\S+) × .* of (\d+)$", text, re.M)
    assert [row[0] for row in found] == ["1", "32"]
    for _, alone, sparse, ratio, layers in found:
        assert float(ratio) == pytest.approx(float(alone) / float(sparse), rel=0.05)
        assert int(layers) == len(weights)


def test_the_command_says_in_a_line_why_there_is_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = sparse_run(tmp_path / "run")
    (run / ".hydra" / "config.yaml").write_text("model: {name: lenet")
    assert re.search(
        r"^.*run: no inference table: .* no settings of model.*$", shown(capsys, run), re.M
    )
    (run / ".hydra" / "config.yaml").unlink()
    assert "config.yaml is missing" in shown(capsys, run)
    (run / "model.safetensors").write_bytes(b"torn")
    (run / ".hydra" / "config.yaml").write_text("model: {name: mlp, hidden: [8]}")
    assert "does not hold the tensors of model=mlp" in shown(capsys, run)
    (run / "model.safetensors").unlink()
    assert "model.safetensors is missing" in shown(capsys, run)
    for copy in "abc":
        copytree(run, tmp_path / copy)
    assert "4 of 4 models are sparse" in shown(capsys, tmp_path)
    for other in find_folders(tmp_path):
        change_summary(other, model_sparsity=0.49)
    assert len(shown(capsys, tmp_path).splitlines()) == 5
    assert len(shown(capsys, run).splitlines()) == 2


def test_settings_come_back_from_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("width: 3\nmodel: {name: a, b: '${width}'}\n")
    assert stored_group(tmp_path, "model") == {"name": "a", "b": 3}
    with pytest.raises(DataError, match="no settings of width"):
        stored_group(tmp_path, "width")
