"""Updates that are recorded, kept, and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedcomp.advise import record
from fedcomp.advise.measure import Bench
from fedcomp.advise.record import Update, read_pair, read_update, recorded, save_update
from fedcomp.config import compose_config
from fedcomp.errors import ConfigError, DataError
from fedcomp.settings import parse
from fedcomp.setup import Setup
from tests.common import equal, run_inline


def setup_of(words: list[str], *more: str) -> Setup:
    return Setup(parse(compose_config([*words, *more])))


def test_an_update_is_recorded_once(
    words: list[str], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train = record._train

    def counted(setup: Setup, chosen: object) -> Update:
        trained.append(1)
        return train(setup, chosen)  # type: ignore[arg-type]

    monkeypatch.setattr(record, "_train", counted)
    again = recorded(setup_of(words))
    assert equal(again.before, bench.update.before)
    assert equal(again.after, bench.update.after)
    assert not trained
    for more in ("seed=2", "train.lr=0.01", "partition=shards"):
        recorded(setup_of(words, "train.steps=1", more))
        recorded(setup_of(words, "train.steps=1", more))
    assert len(trained) == 3


def test_what_is_recorded_is_what_a_client_of_a_run_learns(tmp_path: Path, data: Path) -> None:
    """With two clients the first rounds are those of fedavg itself."""
    words = ["method=fedavg", "model=mlp", "model.hidden=[8]", "train.steps=4", "clients=2"]
    words += [f"data_dir={data}", "partition=quantity"]
    update = recorded(setup_of(words, "rounds=3"))
    run_inline(tmp_path, "rounds=2", quick=[*words, "engine=inline"])
    model = load_file(tmp_path / "model.safetensors")
    assert all(np.allclose(model[n], v, atol=1e-6) for n, v in update.before.items())
    assert not np.allclose(update.before["1.weight"], update.after["1.weight"], atol=1e-3)


def test_long_training_is_cut_and_says_so(words: list[str]) -> None:
    update = recorded(setup_of(words, "train.steps=1000", "train.batch_size=200"))
    assert update.source.endswith("of 5 steps, fewer than a run's")


def test_a_saved_update_comes_back(setup: Setup, bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "update.safetensors"
    save_update(bench.update, str(file))
    found = read_update(setup, str(file))
    assert equal(found.before, bench.update.before)
    assert equal(found.after, bench.update.after)


def test_a_damaged_record_is_named(words: list[str]) -> None:
    setup = setup_of(words)
    recorded(setup)
    place = Path(setup.settings.data_dir) / ".fedcomp"
    for file in place.glob("update-*/update.npy"):
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.chmod(0o644)
        file.write_bytes(data)
    with pytest.raises(DataError, match="remove the folders update-"):
        recorded(setup)


def test_two_models_are_an_update(setup: Setup, bench: Bench, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_file(bench.update.before, run / "model.safetensors")
    save_file(bench.update.after, tmp_path / "after.safetensors")
    found = read_pair(setup, str(run), str(tmp_path / "after.safetensors"))
    assert equal(found.after, bench.update.after)
    assert equal(found.before, bench.update.before)
    idle, codec = Bench(bench.session, read_pair(setup, str(run), str(run))), setup.settings.uplink
    with pytest.raises(ConfigError, match="the update changes nothing"):
        idle.measured(codec)


def test_what_does_not_fit_is_refused(setup: Setup, bench: Bench, tmp_path: Path) -> None:
    other = {**bench.update.after, "9.weight": np.zeros((2, 2), np.float32)}
    save_file(other, tmp_path / "other.safetensors")
    save_file(bench.update.after, tmp_path / "model.safetensors")
    with pytest.raises(
        ConfigError, match=r"--after .*9\.weight \(given \(2, 2\), expected \(10, 24\)\)"
    ):
        read_pair(setup, str(tmp_path), str(tmp_path / "other.safetensors"))
    with pytest.raises(ConfigError, match=r"to be called before\.… and after\.…"):
        read_update(setup, str(tmp_path / "model.safetensors"))
    save_update(Update(bench.update.before, other), str(tmp_path / "update.safetensors"))
    with pytest.raises(ConfigError, match=r"--update .*1 of the tensors do not fit"):
        read_update(setup, str(tmp_path / "update.safetensors"))


def test_training_that_diverges_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"train\.lr=1e\+30: .* lower it"):
        recorded(setup_of(words, "train.lr=1e30"))
