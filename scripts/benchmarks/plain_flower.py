"""The peer: a Flower app as its tutorials write one, without this project.

FedAvg over the Message API; a client loads the model, makes one SGD step on a mini-batch of the
digits and returns its state dict; the server evaluates each new model on the test part.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

_BATCH = 16
_IDLE_SECONDS = 4.0
_TEST = 359

client_app = ClientApp()


@lru_cache(maxsize=1)
def digits() -> tuple[Tensor, Tensor]:
    """Read the data once a process, in one fixed random order."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(labels))
    inputs = (images.reshape(-1, 1, 8, 8) / 16).astype(np.float32)[order]
    return torch.from_numpy(inputs), torch.from_numpy(labels[order])


def model() -> nn.Module:
    """Return the net that `model=mlp model.hidden=[8]` is here."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Make one step on the client's samples."""
    inputs, labels = (part[_TEST:] for part in digits())
    own = slice(int(context.node_config["partition-id"]), None)
    step = int(context.node_config["num-partitions"])
    mine = torch.arange(len(labels))[own][::step]
    batch = mine[torch.randperm(len(mine))[:_BATCH]]
    net = model()
    net.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    config = message.content.config_records["config"]
    lr, momentum = (cast("float", config[name]) for name in ("lr", "momentum"))
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum)
    loss = F.cross_entropy(net(inputs[batch]), labels[batch])
    torch.autograd.backward(loss)
    optimizer.step()
    metrics = MetricRecord({"train_loss": loss.item(), "num-examples": len(mine)})
    arrays = ArrayRecord(net.state_dict())
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def evaluation(ends: list[float]) -> Callable[[int, ArrayRecord], MetricRecord]:
    """Return the central evaluation, which ends each round and so notes the time."""
    net = model()

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:  # noqa: ARG001
        inputs, labels = (part[:_TEST] for part in digits())
        net.load_state_dict(arrays.to_torch_state_dict())
        with torch.no_grad():
            outputs = net(inputs)
        accuracy = float((outputs.argmax(dim=1) == labels).double().mean())
        loss = float(F.cross_entropy(outputs, labels))
        ends.append(time.perf_counter())
        return MetricRecord({"accuracy": accuracy, "loss": loss})

    return evaluate


def server_app(clients: int, rounds: int, fraction: float, ends: list[float]) -> ServerApp:
    """Return the server; without rounds it leaves its actors idle for a while."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001
        while len(list(grid.get_node_ids())) < clients:
            time.sleep(0.05)
        if not rounds:
            time.sleep(_IDLE_SECONDS)
            return
        FedAvg(
            fraction_train=fraction,
            fraction_evaluate=0.0,
            min_train_nodes=1,
            min_evaluate_nodes=1,
            min_available_nodes=1,
        ).start(
            grid=grid,
            initial_arrays=ArrayRecord(model().state_dict()),
            num_rounds=rounds,
            train_config=ConfigRecord({"lr": 0.05, "momentum": 0.9}),
            evaluate_fn=evaluation(ends),
        )

    return app
