"""A child process: the memory that the samples of virtual clients take.

Arguments: FOLDER DATA CLIENTS, with the folder of a data set in CIFAR-10's layout.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from fedcomp.config import compose_config
from fedcomp.settings import parse
from fedcomp.setup import Setup
from fedcomp.training.batches import Batches
from scripts.benchmarks.children import finish, fresh_peak, peak_bytes

_BATCH = 64


def main() -> None:
    folder, place, clients = sys.argv[1:]
    words = ["dataset=cifar10", "dataset.verify=false", f"data_dir={place}"]
    warm = Setup(parse(compose_config(["dataset=digits", "clients=2"])))
    _epoch(warm, 0)
    before = fresh_peak()
    setup = Setup(parse(compose_config([*words, f"clients={clients}"])))
    for client in range(int(clients)):
        _epoch(setup, client)
    store = setup.dataset.train.inputs.nbytes + setup.dataset.test.inputs.nbytes
    finish(Path(folder), {"bytes": peak_bytes() - before, "store": store})


def _epoch(setup: Setup, client: int) -> None:
    train, validation = setup.client_samples(client)
    rng = np.random.default_rng(client)
    batches = Batches(train, torch.device("cpu"), channels_last=False)
    for index in np.split(rng.permutation(len(train)), range(_BATCH, len(train), _BATCH)):
        batches.training(index, rng)
    for _ in Batches(validation, torch.device("cpu"), channels_last=False).evaluation():
        pass


if __name__ == "__main__":
    main()
