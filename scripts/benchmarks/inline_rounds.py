"""Rounds of `engine=inline method=fedavg` beside the same rounds in a bare PyTorch loop."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from fedcomp import seeds
from fedcomp.cli import prepare
from fedcomp.config import compose_config
from fedcomp.engines.logs import logging_to
from fedcomp.report.observer import Observer
from fedcomp.runtime import Hooks
from fedcomp.settings import Job
from fedcomp.training.loop import batch_ends
from scripts.benchmarks.rows import Row

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedcomp.data.base import Samples
    from fedcomp.report.observer import RoundResult
    from fedcomp.setup import Setup

_WARM_UP, _ROUNDS = 5, 25
_TOLERANCE = 0.01
_OVERRIDES = ["engine=inline", "method=fedavg", "clients=10", "engine.cpus_per_client=1"]


class BareLoop:
    """Federated averaging with nothing but PyTorch: what the steps themselves cost.

    It draws the same batches from the same seeds, so that both train the same models up to the
    rounding of the average.
    """

    def __init__(self, setup: Setup) -> None:
        settings = setup.settings
        self._train = settings.train
        self._seed = settings.seed
        parts = [setup.client_samples(client)[0] for client in range(settings.clients)]
        self._clients = [_tensors(samples) for samples in parts]
        self._inputs, self._targets = _tensors(setup.dataset.test)
        self._module = settings.model.seeded(
            setup.dataset.input_shape, setup.dataset.classes, seeds.seed_from(self._seed, "model")
        )
        self._state = _copy(self._module)
        self.metrics: dict[str, float] = {}

    def round(self, number: int) -> None:
        """Train all clients, average their state dicts and evaluate the average."""
        trained = [self._client(number, client) for client in range(len(self._clients))]
        sizes = [len(targets) for _, targets in self._clients]
        self._state = {
            name: sum(
                (
                    state[name] * (size / sum(sizes))
                    for state, size in zip(trained, sizes, strict=True)
                ),
                torch.zeros_like(value),
            )
            for name, value in self._state.items()
        }
        self._evaluate()

    def _client(self, number: int, client: int) -> dict[str, Tensor]:
        inputs, targets = self._clients[client]
        self._module.load_state_dict(self._state)
        self._module.train()
        optimizer = torch.optim.SGD(
            self._module.parameters(), lr=self._train.lr, momentum=self._train.momentum
        )
        rng = seeds.generator(self._seed, number, "train", client)
        rng.integers(2**63)  # the project draws torch's seed here
        ends = batch_ends(len(targets), self._train.batch_size)
        for _ in range(self._train.epochs):
            order = torch.from_numpy(rng.permutation(len(targets)))
            for index in torch.tensor_split(order, ends):
                optimizer.zero_grad(set_to_none=True)
                loss = F.cross_entropy(self._module(inputs[index]), targets[index])
                torch.autograd.backward(loss)
                optimizer.step()
        return _copy(self._module)

    def _evaluate(self) -> None:
        self._module.load_state_dict(self._state)
        self._module.eval()
        with torch.no_grad():
            outputs = self._module(self._inputs)
        correct = (outputs.argmax(dim=1) == self._targets).to(torch.float64).mean()
        loss = F.cross_entropy(outputs, self._targets)
        self.metrics = {"accuracy": float(correct), "loss": float(loss)}


class Duel(Observer):
    """Runs a bare round after each of the project's, in the same process with one thread each."""

    def __init__(self, bare: BareLoop) -> None:
        self._bare = bare
        self._resumed = 0.0
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.accuracies: list[tuple[float, float]] = []
        self.threads = 0

    def on_round(self, result: RoundResult) -> None:
        """Note the project's time since the bare loop ended, then let that run its round."""
        ended = time.perf_counter()
        if result.round:
            self._bare.round(result.round)
            self.ours.append(ended - self._resumed)
            self.theirs.append(time.perf_counter() - ended)
            self.accuracies.append((result.metrics["accuracy"], self._bare.metrics["accuracy"]))
        self.threads = torch.get_num_threads()
        self._resumed = time.perf_counter()


def inline_rounds() -> Row:
    """Return the row: seconds a round, ours and bare, with the accuracies that both reached."""
    config = compose_config([*_OVERRIDES, f"rounds={_WARM_UP + _ROUNDS}"])
    setup = prepare(config)
    duel = Duel(BareLoop(setup))
    with tempfile.TemporaryDirectory() as folder, logging_to(Path(folder) / "log", verbose=False):
        job = Job(config, "benchmark", folder)
        job.settings.engine.run(job, setup, Hooks([duel]))
    first, last = duel.accuracies[0], duel.accuracies[-1]
    if abs(last[0] - last[1]) > _TOLERANCE or duel.threads != 1:
        msg = (
            f"not comparable: accuracy {last[0]:.4f} against {last[1]:.4f} of the bare loop with"
            f" {duel.threads} threads; both have to compute the same with one thread"
        )
        raise RuntimeError(msg)
    remark = (
        f"accuracy {first[0]:.4f}/{first[1]:.4f} after round 1,"
        f" {last[0]:.4f}/{last[1]:.4f} after {_WARM_UP + _ROUNDS}"
    )
    ours, theirs = duel.ours[_WARM_UP:], duel.theirs[_WARM_UP:]
    return Row("inline, 10 clients: round", "s", ours, theirs, "peer", 1.1, remark)


def _tensors(samples: Samples) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(samples.inputs.copy()), torch.from_numpy(samples.targets.copy())


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
