"""An update of a small net, made in a moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedcomp.advise.measure import Bench
from fedcomp.advise.record import recorded
from fedcomp.config import compose_config
from fedcomp.runtime import limited_threads
from fedcomp.settings import Settings, parse
from fedcomp.setup import Setup

MODEL = ["model=small_cnn", "model.width=4", "model.hidden=24"]
WORDS = ["method=fedavg", *MODEL, "train.steps=10", "clients=4"]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Compute as the command does."""
    with limited_threads(1):
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where updates are kept."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def words(data: Path) -> list[str]:
    """Return the words of a run."""
    return [*WORDS, f"data_dir={data}"]


@pytest.fixture(scope="session")
def settings(words: list[str]) -> Settings:
    return parse(compose_config(words))


@pytest.fixture(scope="session")
def setup(settings: Settings) -> Setup:
    return Setup(settings)


@pytest.fixture(scope="session")
def bench(setup: Setup) -> Bench:
    return Bench(setup.session("test"), recorded(setup))
